#include "ops/core/table.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <string>
#include <unordered_map>

namespace tfps {
namespace {

// What one key costs, in cycles, for the thread pool to decide how finely to split.
constexpr int64_t kPullCycles = 200;
constexpr int64_t kPushCycles = 400;
constexpr int64_t kScanCycles = 20;

std::vector<RowHead> Concatenate(const std::vector<std::vector<RowHead>>& parts) {
  size_t size = 0;
  for (const auto& part : parts) size += part.size();
  std::vector<RowHead> all;
  all.reserve(size);
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

// The keys of a batch, grouped by shard and in their order within one.
class KeysByShard {
 public:
  // Takes keys[i], and its reference if there are any, where wanted(i).
  template <typename Wanted>
  KeysByShard(const uint64_t* keys, const uint32_t* references, int64_t n, int num_shards,
              Wanted wanted)
      : shard_of_(n), ends_(num_shards + 1) {
    for (int64_t i = 0; i < n; ++i) {
      if (!wanted(i)) {
        shard_of_[i] = kNoShard;
        continue;
      }
      shard_of_[i] = static_cast<int32_t>(VirtualShard(keys[i], num_shards));
      ++ends_[shard_of_[i] + 1];
    }
    for (int s = 0; s < num_shards; ++s) ends_[s + 1] += ends_[s];
    items_.reset(new KeyAt[ends_[num_shards]]);
    // From here ends_[s] is the next free place of shard s, so that it is its end when all are
    // placed.
    for (int64_t i = 0; i < n; ++i) {
      if (shard_of_[i] == kNoShard) continue;
      items_[ends_[shard_of_[i]]++] = {keys[i], static_cast<uint32_t>(i),
                                       references == nullptr ? Arena::kNone : references[i]};
    }
  }

  int64_t size() const { return ends_.back(); }

  // Calls visit(shard, keys, count) for those of the shards [first, last) that have keys. Meanwhile
  // the start of the next shard's look-ups comes into the cache.
  template <typename Visit>
  void ForEachShard(const std::vector<std::unique_ptr<Shard>>& shards, int64_t first, int64_t last,
                    Visit visit) const {
    const int64_t end = Begin(last);
    for (int64_t s = first; s < last; ++s) {
      const int64_t next = Begin(s + 1);
      if (Begin(s) == next) continue;
      const int64_t ahead_end = std::min(next + kShardAhead, end);
      for (int64_t i = next; i < ahead_end; ++i) {
        if (items_[i].reference != Arena::kNone) continue;
        shards[VirtualShard(items_[i].key, shards.size())]->Prefetch(items_[i].key);
      }
      visit(shards[s].get(), &items_[Begin(s)], next - Begin(s));
    }
  }

 private:
  static constexpr int32_t kNoShard = -1;
  static constexpr int kShardAhead = 32;

  int64_t Begin(int64_t shard) const { return shard == 0 ? 0 : ends_[shard - 1]; }

  std::vector<int32_t> shard_of_;
  std::vector<int64_t> ends_;
  std::unique_ptr<KeyAt[]> items_;
};

}  // namespace

Table::Table(const TableOptions& options) : config_(options) {
  for (int s = 0; s < num_shards(); ++s)
    shards_.push_back(std::make_unique<Shard>(&config_, &pool_));
}

void Table::Pull(const uint64_t* keys, int64_t n, float* rows, int width,
                 const ParallelFor& parallel_for, uint32_t* references) const {
  const KeysByShard by_shard(keys, nullptr, n, num_shards(), [&](int64_t i) {
    const bool wanted = keys[i] != kPadding && !IsReserved(keys[i]);
    if (!wanted) std::fill_n(rows + i * width, width, 0.0f);
    if (!wanted && references != nullptr) references[i] = Arena::kNone;
    return wanted;
  });
  parallel_for(num_shards(), CostOfShard(by_shard.size(), kPullCycles),
               [&](int64_t first, int64_t last) {
                 by_shard.ForEachShard(shards_, first, last,
                                       [&](const Shard* shard, const KeyAt* part, int64_t count) {
                                         shard->Pull(part, count, rows, width, references);
                                       });
               });
}

std::optional<std::string> Table::Push(const PushBatch& batch, const ParallelFor& parallel_for) {
  int64_t reserved = 0, nonfinite = 0;
  const KeysByShard by_shard(batch.keys, batch.references, batch.n, num_shards(), [&](int64_t i) {
    if (batch.keys[i] == kPadding) return false;
    if (IsReserved(batch.keys[i])) {
      ++reserved;
      return false;
    }
    if (!std::isfinite(batch.show[i]) || !std::isfinite(batch.click[i])) {
      ++nonfinite;
      return false;
    }
    return true;
  });
  std::atomic<bool> room{true};
  parallel_for(num_shards(), CostOfShard(by_shard.size(), kPushCycles),
               [&](int64_t first, int64_t last) {
                 by_shard.ForEachShard(shards_, first, last,
                                       [&](Shard* shard, const KeyAt* part, int64_t count) {
                                         if (!shard->Push(part, count, batch)) room = false;
                                       });
               });
  reserved_pushes_ += reserved;
  nonfinite_counts_ += nonfinite;
  if (room) return std::nullopt;
  return "Some rows found no room: the memory is used up, or a shard holds its most of 128 MiB of "
         "rows; give the "
         "table more servers or more than num_shards=" +
         std::to_string(num_shards()) + ".";
}

int64_t Table::EndOfDay(int64_t day, const ParallelFor& parallel_for) {
  std::atomic<int64_t> evicted{0};
  parallel_for(num_shards(), CostOfScan(), [&](int64_t first, int64_t last) {
    for (int64_t s = first; s < last; ++s) evicted += shards_[s]->EndOfDay(day);
  });
  return evicted;
}

std::vector<RowHead> Table::EndOfDayRows(int first_shard, int last_shard, int64_t day,
                                         std::optional<std::vector<uint64_t>> announced,
                                         const ParallelFor& parallel_for) {
  if (announced) std::sort(announced->begin(), announced->end());
  std::vector<std::vector<RowHead>> left(last_shard - first_shard);
  parallel_for(last_shard - first_shard, CostOfScan(), [&](int64_t first, int64_t last) {
    for (int64_t s = first; s < last; ++s) {
      shards_[first_shard + s]->EndOfDay(day, announced ? &*announced : nullptr, &left[s]);
    }
  });
  return Concatenate(left);
}

std::vector<RowHead> Table::Evictable(int first_shard, int last_shard, int64_t day,
                                      const ParallelFor& parallel_for) const {
  std::vector<std::vector<RowHead>> due(last_shard - first_shard);
  parallel_for(last_shard - first_shard, CostOfScan(), [&](int64_t first, int64_t last) {
    for (int64_t s = first; s < last; ++s) {
      shards_[first_shard + s]->ForEachDue(
          day, [&](const RowHead& row) { due[s].push_back(row); });
    }
  });
  return Concatenate(due);
}

std::map<int32_t, int64_t> Table::CountEvictable(int64_t day,
                                                 const ParallelFor& parallel_for) const {
  std::mutex mutex;
  std::map<int32_t, int64_t> total;
  parallel_for(num_shards(), CostOfScan(), [&](int64_t first, int64_t last) {
    std::unordered_map<int32_t, int64_t> counts;
    for (int64_t s = first; s < last; ++s) {
      shards_[s]->ForEachDue(day, [&](const RowHead& row) { ++counts[row.slot]; });
    }
    std::lock_guard<std::mutex> lock(mutex);
    for (const auto& [slot, count] : counts) total[slot] += count;
  });
  return total;
}

int64_t Table::CostOfScan() const {
  int64_t rows = 0;
  for (const auto& shard : shards_) rows += shard->Statistics().rows;
  return CostOfShard(rows, kScanCycles);
}

int64_t Table::CostOfShard(int64_t keys, int64_t cycles_per_key) const {
  return 1 + keys * cycles_per_key / num_shards();
}

std::vector<std::pair<std::string, double>> Table::Statistics() const {
  ShardStatistics total;
  for (const auto& shard : shards_) {
    const ShardStatistics part = shard->Statistics();
    total.rows += part.rows;
    total.admitted += part.admitted;
    total.show += part.show;
    total.click += part.click;
    total.slot_conflicts += part.slot_conflicts;
    total.nonfinite_gradients += part.nonfinite_gradients;
    total.pushed_keys += part.pushed_keys;
    total.evicted += part.evicted;
    total.pulled_keys += part.pulled_keys;
    total.small_index_bytes += part.small_index_bytes;
  }
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  return {{"rows", number(total.rows)},
          {"admitted", number(total.admitted)},
          {"bytes", number(pool_.bytes_in_use() + total.small_index_bytes)},
          {"show", total.show},
          {"click", total.click},
          {"reserved_pushes", number(reserved_pushes_)},
          {"slot_conflicts", number(total.slot_conflicts)},
          {"nonfinite_gradients", number(total.nonfinite_gradients)},
          {"nonfinite_counts", number(nonfinite_counts_)},
          {"pulled_keys", number(total.pulled_keys)},
          {"pushed_keys", number(total.pushed_keys)},
          {"evicted", number(total.evicted)},
          {"pushes", number(version_)},
          {"repeated_pushes", number(repeated_pushes_)},
          {"staleness_sum", number(staleness_sum_)},
          {"staleness_max", number(staleness_max_)},
          {"tickets_ahead_max", number(tickets_ahead_max_)}};
}

std::vector<uint64_t> Table::Keys(int first_shard, int last_shard) const {
  std::vector<uint64_t> keys;
  for (int s = first_shard; s < last_shard; ++s) shards_[s]->AppendKeys(&keys);
  return keys;
}

void Table::Inspect(const uint64_t* keys, int64_t n, const InspectedRows& rows) const {
  for (int64_t i = 0; i < n; ++i) ShardOf(keys[i]).Inspect(keys[i], i, rows);
}

}  // namespace tfps
