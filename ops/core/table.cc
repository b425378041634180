#include "ops/core/table.h"

#include <string>

namespace tfps {

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
