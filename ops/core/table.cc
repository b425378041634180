#include "ops/core/table.h"

#include <string>

#include "ops/core/finite.h"

namespace tfps {

std::string NonfiniteRow(uint64_t key) {
  return "Feasign " + std::to_string(static_cast<int64_t>(key)) +
         " has a weight or an optimizer state that is not finite.";
}

std::optional<std::string> Table::CheckFinite(const RowColumns& columns,
                                              const RowColumnsSize& size) const {
  if (AllFinite(columns.floats, size.floats)) return std::nullopt;
  const float* floats = columns.floats;
  for (int64_t i = 0; i < size.rows; ++i) {
    const int n = config_.FloatsOf(columns, i);
    if (!AllFinite(floats, n)) return NonfiniteRow(columns.keys[i]);
    floats += n;
  }
  return std::nullopt;
}

std::vector<std::pair<std::string, double>> Table::Statistics() const {
  const ShardStatistics total = Totals();
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  return {{"rows", number(total.rows)},
          {"admitted", number(total.admitted)},
          {"bytes", number(total.bytes)},
          {"show", total.show},
          {"click", total.click},
          {"reserved_pushes", number(reserved_pushes_)},
          {"slot_conflicts", number(total.slot_conflicts)},
          {"nonfinite_gradients", number(total.nonfinite_gradients)},
          {"nonfinite_counts", number(nonfinite_counts_)},
          {"odd_clicks", number(odd_clicks_)},
          {"pulled_keys", number(total.pulled_keys)},
          {"pushed_keys", number(total.pushed_keys)},
          {"evicted", number(total.evicted)},
          {"evicted_at_limit", number(total.evicted_at_limit)},
          {"pushes", number(version_)},
          {"repeated_pushes", number(repeated_pushes_)},
          {"staleness_sum", number(staleness_sum_)},
          {"staleness_max", number(staleness_max_)},
          {"tickets_ahead_max", number(tickets_ahead_max_)},
          {"fullness_max", total.fullness}};
}

}  // namespace tfps
