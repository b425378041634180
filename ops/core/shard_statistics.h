// The numbers that a table counts in each shard.
#ifndef OPS_CORE_SHARD_STATISTICS_H_
#define OPS_CORE_SHARD_STATISTICS_H_

#include <algorithm>
#include <cstdint>

namespace tfps {

struct ShardStatistics {
  int64_t rows = 0;
  int64_t admitted = 0;
  double show = 0;
  double click = 0;
  int64_t slot_conflicts = 0;
  int64_t nonfinite_gradients = 0;
  int64_t pushed_keys = 0;
  int64_t evicted = 0;
  int64_t evicted_at_limit = 0;
  int64_t pulled_keys = 0;
  int64_t bytes = 0;    // without what all shards share
  double fullness = 0;  // of the limit

  void operator+=(const ShardStatistics& other) {
    rows += other.rows;
    admitted += other.admitted;
    show += other.show;
    click += other.click;
    slot_conflicts += other.slot_conflicts;
    nonfinite_gradients += other.nonfinite_gradients;
    pushed_keys += other.pushed_keys;
    evicted += other.evicted;
    evicted_at_limit += other.evicted_at_limit;
    pulled_keys += other.pulled_keys;
    bytes += other.bytes;
    fullness = std::max(fullness, other.fullness);
  }
};

}  // namespace tfps

#endif  // OPS_CORE_SHARD_STATISTICS_H_
