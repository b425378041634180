#include <utility>
#include <vector>

#include "ops/core/shard.h"

namespace tfps {

void Shard::KeepLimit() {
  const RowLimit& limit = config_.limit();
  const int64_t most_bytes = config_.LimitBytes(statistics_.rows, statistics_.admitted);
  if (!limit.IsPassed(statistics_.rows, most_bytes)) return;
  const bool too_many = limit.IsPassed(statistics_.rows, /*bytes=*/0);
  // The size of rows of several lengths is known only from a scan.
  if (!too_many && !config_.one_policy() && statistics_.pushed_keys < look_again_at_) return;
  std::vector<LeavingRow> rows;
  rows.reserve(statistics_.rows);
  int64_t bytes = 0;
  arena_.ForEach([&](uint32_t handle, const RowHead* row) {
    rows.push_back(config_.Leaving(row, handle));
    bytes += rows.back().bytes;
  });
  if (!too_many && !config_.one_policy() && limit.Left(bytes) > 0) {
    // A push adds at most the longest row.
    look_again_at_ = statistics_.pushed_keys + limit.Left(bytes) / config_.LimitBytes(1, 1);
    return;
  }
  const int64_t rows_before = statistics_.rows;
  for (const LeavingRow& leaving : limit.Leaving(std::move(rows), bytes)) {
    const RowHead* row = arena_.At(leaving.handle);
    if (row->flags & kServed) removals_.push_back({row->key, row->slot});
    statistics_.show -= row->show;
    statistics_.click -= row->click;
    Remove(SplitMix64(row->key), leaving.handle);
  }
  if (statistics_.rows == rows_before) return;
  statistics_.evicted_at_limit += rows_before - statistics_.rows;
  all_touched_ = true;  // An increment of touched rows could not say which rows are gone.
}

}  // namespace tfps
