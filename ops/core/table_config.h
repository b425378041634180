// What all shards of a table share: its options, which never change, and what follows from them for
// the rows of each slot. Of that only learning rates change.
#ifndef OPS_CORE_TABLE_CONFIG_H_
#define OPS_CORE_TABLE_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "ops/core/accessor.h"
#include "ops/core/arena.h"
#include "ops/core/columns.h"
#include "ops/core/optimizer.h"
#include "ops/core/options.h"
#include "ops/core/row.h"
#include "ops/core/row_limit.h"
#include "ops/core/shard_statistics.h"

namespace tfps {

// The layout, accessor and optimizers of a row; the slot that created it decides.
struct Policy {
  explicit Policy(const PolicyOptions& options);

  Accessor accessor;
  Optimizer lr;
  Optimizer mf;
  RowLayout layout;
  int size_class[2] = {0, 0};  // in the arena, unadmitted and admitted
};

class TableConfig {
 public:
  explicit TableConfig(const TableOptions& table_options);
  TableConfig(const TableConfig&) = delete;
  TableConfig& operator=(const TableConfig&) = delete;

  const TableOptions& options() const { return options_; }

  // The policy of the rows that `slot` creates. A table with one policy needs no look-up.
  const Policy& PolicyOf(int32_t slot) const {
    const uint32_t number = static_cast<uint32_t>(slot);
    if (number < by_slot_.size()) return *by_slot_[number];
    if (by_large_slot_.empty()) return policies_.front();
    const auto found = by_large_slot_.find(slot);
    return found == by_large_slot_.end() ? policies_.front() : *found->second;
  }
  const Policy& PolicyOf(const RowHead* row) const { return PolicyOf(row->slot); }

  // The number of floats and the size class of a row, in a table or at index `i` of columns.
  int FloatsOf(const RowHead* row) const { return PolicyOf(row).layout.floats(IsAdmitted(row)); }
  int FloatsOf(const RowColumns& columns, int64_t i) const {
    return PolicyOf(columns.slots[i]).layout.floats((columns.flags[i] & kAdmitted) != 0);
  }
  int SizeClassOf(const RowColumns& columns, int64_t i) const {
    return PolicyOf(columns.slots[i]).size_class[(columns.flags[i] & kAdmitted) != 0];
  }

  // Returns one sentence if the number of floats is not that of these rows.
  std::optional<std::string> CheckFloats(const RowColumns& columns,
                                         const RowColumnsSize& size) const;

  // Of each shard.
  const RowLimit& limit() const { return limit_; }

  // The bytes of rows as the limit counts them: the rows and their part of the index. If slots
  // differ, every row of several is counted as long as the longest.
  int LimitBytes(const RowHead* row) const {
    return LimitBytes(PolicyOf(row).layout, IsAdmitted(row));
  }
  int64_t LimitBytes(int64_t rows, int64_t admitted) const {
    return rows * small_limit_bytes_ + admitted * (limit_bytes_ - small_limit_bytes_);
  }

  double Fullness(const ShardStatistics& shard) const {
    return limit_.Fullness(shard.rows, LimitBytes(shard.rows, shard.admitted));
  }

  // A row as the limit sees it.
  LeavingRow Leaving(const RowHead* row, uint32_t handle) const {
    const double score = PolicyOf(row).accessor.Score(row->show, row->click);
    return {score, row->unseen_days, LimitBytes(row), row->key, handle};
  }

  const std::vector<SizeClass>& size_classes() const { return size_classes_; }

  bool one_policy() const { return policies_.size() == 1; }

  // The table's own policy, then those of slots.
  const std::vector<Policy>& policies() const { return policies_; }

  // Sets the learning rates of lr and mf of each policy, in the order of `policies`; if `factor` is
  // not negative, also what all of them are multiplied by. Either may be left as it is: no rates,
  // or a negative factor. Not to be called by two threads at once.
  void SetLearningRates(const float* rates, int64_t n, float factor);

  // The largest of any policy:
  int mf_dim() const { return mf_dim_; }
  int row_floats() const { return row_floats_; }      // lr_w, lr state, mf_w, mf state
  int row_bytes() const { return row_bytes_; }        // with the head
  int pulled_bytes() const { return pulled_bytes_; }  // up to the end of mf_w

 private:
  // Slots with smaller numbers are looked up in a vector; programs number their slots from 1.
  static constexpr int32_t kLargeSlot = 65536;

  static int LimitBytes(const RowLayout& layout, bool admitted) {
    return 48 + (4 * layout.floats(admitted) + 7) / 8 * 8;
  }

  int AddSizeClass(const RowLayout& layout, bool admitted);

  const TableOptions options_;
  const RowLimit limit_;
  std::vector<Policy>
      policies_;  // the table's own, then those of slots; does not grow after construction
  std::vector<const Policy*> by_slot_;
  std::unordered_map<int32_t, const Policy*> by_large_slot_;
  std::vector<SizeClass> size_classes_;
  int mf_dim_ = 0;
  int row_floats_ = 0;
  int row_bytes_ = 0;
  int limit_bytes_ = 0;
  int small_limit_bytes_ = 0;  // of unadmitted ones
  int pulled_bytes_ = 0;
};

}  // namespace tfps

#endif  // OPS_CORE_TABLE_CONFIG_H_
