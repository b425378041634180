#include "ops/core/table_config.h"

#include <algorithm>

namespace tfps {

Policy::Policy(const PolicyOptions& options)
    : accessor(options.accessor),
      lr(options.lr, 1),
      mf(options.mf, options.mf_dim),
      layout{options.mf_dim, lr.StateFloats(), mf.StateFloats()} {}

TableConfig::TableConfig(const TableOptions& table_options)
    : options_(table_options), limit_(table_options) {
  policies_.reserve(1 + options_.slots.size());
  policies_.emplace_back(options_);
  for (const auto& [slot, policy_options] : options_.slots) {
    policies_.emplace_back(policy_options);
    if (slot >= kLargeSlot) {
      by_large_slot_[slot] = &policies_.back();
    } else {
      by_slot_.resize(slot + 1, &policies_.front());
      by_slot_[slot] = &policies_.back();
    }
  }
  for (Policy& policy : policies_) {
    const RowLayout& layout = policy.layout;
    for (bool admitted : {false, true}) {
      policy.size_class[admitted] = AddSizeClass(layout, admitted);
    }
    mf_dim_ = std::max(mf_dim_, layout.mf_dim);
    row_floats_ = std::max(row_floats_, layout.admitted_floats());
    limit_bytes_ = std::max(limit_bytes_, LimitBytes(layout, /*admitted=*/true));
    small_limit_bytes_ = std::max(small_limit_bytes_, LimitBytes(layout, /*admitted=*/false));
    row_bytes_ = std::max(row_bytes_, layout.bytes(/*admitted=*/true));
    pulled_bytes_ =
        std::max(pulled_bytes_, static_cast<int>(sizeof(RowHead)) + 4 * layout.mf_state());
  }
}

void TableConfig::SetLearningRates(const float* rates, int64_t n, float factor) {
  for (size_t i = 0; i < policies_.size(); ++i) {
    Policy& policy = policies_[i];
    if (n > 0) {
      policy.lr.SetRate(rates[2 * i]);
      policy.mf.SetRate(rates[2 * i + 1]);
    }
    if (factor >= 0) {
      policy.lr.SetFactor(factor);
      policy.mf.SetFactor(factor);
    }
  }
}

std::optional<std::string> TableConfig::CheckFloats(const RowColumns& columns,
                                                    const RowColumnsSize& size) const {
  int64_t floats = 0, admitted = 0;
  for (int64_t i = 0; i < size.rows; ++i) {
    floats += FloatsOf(columns, i);
    admitted += (columns.flags[i] & kAdmitted) != 0;
  }
  if (floats == size.floats) return std::nullopt;
  return std::to_string(size.rows) + " rows, " + std::to_string(admitted) +
         " of them admitted, come with " + std::to_string(size.floats) +
         " floats, but the mf_dim and optimizers that this table has for their slots make that " +
         std::to_string(floats) + ".";
}

int TableConfig::AddSizeClass(const RowLayout& layout, bool admitted) {
  const SizeClass wanted(layout.bytes(admitted), admitted ? layout.mf_w() : 0,
                         admitted ? layout.mf_state() : 0);
  const auto same = [&](const SizeClass& known) {
    return known.bytes == wanted.bytes && known.mf_begin == wanted.mf_begin &&
           known.mf_end == wanted.mf_end;
  };
  const auto found = std::find_if(size_classes_.begin(), size_classes_.end(), same);
  const int number = static_cast<int>(found - size_classes_.begin());
  if (found == size_classes_.end()) size_classes_.push_back(wanted);
  return number;
}

}  // namespace tfps
