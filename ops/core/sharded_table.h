// A table of virtual shards, each with its own lock and rows: everything that a table
// does shard by shard. An engine adds how a batch reaches the shards: see NativeTable.
//
// `Shard` is a class with the members of tfps::Shard that are called here.
#ifndef OPS_CORE_SHARDED_TABLE_H_
#define OPS_CORE_SHARDED_TABLE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ops/core/table.h"

namespace tfps {

template <typename Shard>
class ShardedTable : public Table {
 public:
  int64_t EndOfDay(int64_t day, const ParallelFor& parallel_for) override {
    std::atomic<int64_t> evicted{0};
    ForEachShard(0, num_shards(), parallel_for,
                 [&](int64_t, Shard& shard) { evicted += shard.EndOfDay(day); });
    return evicted;
  }

  std::vector<RowHead> EndOfDayRows(int first_shard, int last_shard, int64_t day,
                                    std::optional<std::vector<uint64_t>> announced,
                                    const ParallelFor& parallel_for) override {
    if (announced) std::sort(announced->begin(), announced->end());
    std::vector<std::vector<RowHead>> left(last_shard - first_shard);
    ForEachShard(first_shard, last_shard, parallel_for, [&](int64_t i, Shard& shard) {
      shard.EndOfDay(day, announced ? &*announced : nullptr, &left[i]);
    });
    return Concatenate(left);
  }

  std::vector<RowHead> Evictable(int first_shard, int last_shard, int64_t day,
                                 const ParallelFor& parallel_for) const override {
    std::vector<std::vector<RowHead>> due(last_shard - first_shard);
    ForEachShard(first_shard, last_shard, parallel_for, [&](int64_t i, const Shard& shard) {
      shard.ForEachDue(day, [&](const RowHead& row) { due[i].push_back(row); });
    });
    return Concatenate(due);
  }

  std::map<int32_t, int64_t> CountEvictable(int64_t day,
                                            const ParallelFor& parallel_for) const override {
    std::mutex mutex;
    std::map<int32_t, int64_t> total;
    ForEachShard(0, num_shards(), parallel_for, [&](int64_t, const Shard& shard) {
      std::unordered_map<int32_t, int64_t> counts;
      shard.ForEachDue(day, [&](const RowHead& row) { ++counts[row.slot]; });
      std::lock_guard<std::mutex> lock(mutex);
      for (const auto& [slot, count] : counts) total[slot] += count;
    });
    return total;
  }

  std::vector<uint64_t> Keys(int first_shard, int last_shard) const override {
    std::vector<uint64_t> keys;
    for (int s = first_shard; s < last_shard; ++s) shards_[s]->AppendKeys(&keys);
    return keys;
  }

  void Inspect(const uint64_t* keys, int64_t n, const InspectedRows& rows) const override {
    for (int64_t i = 0; i < n; ++i) {
      shards_[VirtualShard(keys[i], num_shards())]->Inspect(keys[i], i, rows);
    }
  }

  void PullCounts(const uint64_t* keys, int64_t n, float* counts,
                  const ParallelFor& parallel_for) const override {
    parallel_for(n, kCountsCycles, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        shards_[VirtualShard(keys[i], num_shards())]->PullCounts(keys[i], counts + 2 * i);
      }
    });
  }

  ShardState ReadRows(int shard, Rows which, const AllocateColumns& allocate) override {
    return shards_[shard]->ReadRows(which, allocate);
  }
  void TouchAll(int shard) override { shards_[shard]->TouchAll(); }
  ShardLoad Load(int shard) const override { return shards_[shard]->Load(); }

  std::optional<std::string> WriteRows(int shard, const RowColumns& columns,
                                       const RowColumnsSize& size,
                                       const ShardState& state) override {
    for (int64_t i = 0; i < size.rows; ++i) {
      const uint64_t key = columns.keys[i];
      if (key == kPadding || IsReserved(key) ||
          static_cast<int>(VirtualShard(key, num_shards())) != shard) {
        return "Key " + std::to_string(static_cast<int64_t>(key)) + " is none of shard " +
               std::to_string(shard) + " of " + std::to_string(num_shards()) + ".";
      }
    }
    if (auto problem = config_.CheckFloats(columns, size)) return problem;
    return shards_[shard]->WriteRows(columns, size, state);
  }

  std::optional<std::string> Upsert(const RowColumns& columns,
                                    const RowColumnsSize& size) override {
    for (int64_t i = 0; i < size.rows; ++i) {
      const uint64_t key = columns.keys[i];
      if (key == kPadding || IsReserved(key)) {
        return "Key " + std::to_string(static_cast<int64_t>(key)) +
               " is padding or reserved: no row can have it.";
      }
    }
    if (auto problem = config_.CheckFloats(columns, size)) return problem;
    std::vector<std::vector<RowAt>> rows_of(num_shards());
    const float* floats = columns.floats;
    for (int64_t i = 0; i < size.rows; ++i) {
      rows_of[VirtualShard(columns.keys[i], num_shards())].push_back({i, floats});
      floats += config_.FloatsOf(columns, i);
    }
    for (int s = 0; s < num_shards(); ++s) {
      if (rows_of[s].empty()) continue;
      if (auto problem = shards_[s]->Upsert(columns, rows_of[s])) return problem;
    }
    return std::nullopt;
  }

  std::optional<std::string> Capture(const ExportQuery& query, const AllocateExport& allocate,
                                     std::vector<Removal>* removed,
                                     const ParallelFor& parallel_for) override {
    std::vector<int64_t> ends(num_shards() + 1);
    ForEachShard(0, num_shards(), parallel_for,
                 [&](int64_t s, const Shard& shard) { ends[s + 1] = shard.CountExported(query); });
    for (int s = 0; s < num_shards(); ++s) ends[s + 1] += ends[s];
    const ExportColumns out = allocate(ends.back());
    if (out.keys == nullptr && ends.back() > 0) {
      return "There is no memory for the rows of an export.";
    }
    std::vector<std::vector<Removal>> removed_of(num_shards());
    std::atomic<bool> same{true};
    ForEachShard(0, num_shards(), parallel_for, [&](int64_t s, Shard& shard) {
      const int64_t begin = ends[s], rows = ends[s + 1] - begin;
      const ExportColumns part = {out.keys + begin, out.slots + begin, out.rows + begin * out.width,
                                  out.delta_scores + begin, out.width};
      if (shard.Capture(query, rows, part, &removed_of[s]) != rows) same = false;
    });
    if (!same) {
      return "The table was pushed to while its rows were captured for an export: export at a "
             "moment when no ticket is running.";
    }
    for (const auto& part : removed_of) removed->insert(removed->end(), part.begin(), part.end());
    return std::nullopt;
  }

  void Commit(Export which, const std::vector<CapturedKey>& captured,
              const std::vector<uint64_t>& removed, const ParallelFor& parallel_for) override {
    std::vector<std::vector<CapturedKey>> captured_of(num_shards());
    for (const CapturedKey& row : captured) {
      captured_of[VirtualShard(row.key, num_shards())].push_back(row);
    }
    std::vector<std::vector<uint64_t>> removed_of(num_shards());
    for (const uint64_t key : removed) removed_of[VirtualShard(key, num_shards())].push_back(key);
    ForEachShard(0, num_shards(), parallel_for, [&](int64_t s, Shard& shard) {
      shard.Commit(which, captured_of[s], removed_of[s]);
    });
  }

 protected:
  using Table::Table;

  ShardStatistics Totals() const override {
    ShardStatistics total;
    for (const auto& shard : shards_) total += shard->Statistics();
    return total;
  }

  // The cost of one shard's part of so many keys.
  int64_t CostOfShard(int64_t keys, int64_t cycles_per_key) const {
    return 1 + keys * cycles_per_key / num_shards();
  }

  std::vector<std::unique_ptr<Shard>> shards_;  // num_shards; filled by the engine's constructor

 private:
  static constexpr int64_t kScanCycles = 20;
  static constexpr int64_t kCountsCycles = 200;

  // Calls visit(i, shard) in parallel for the shards [first_shard, last_shard), with i counted from
  // 0. The cost is that of a scan of all rows.
  template <typename Visit>
  void ForEachShard(int first_shard, int last_shard, const ParallelFor& parallel_for,
                    Visit visit) const {
    const int64_t cost = CostOfShard(ShardedTable::Totals().rows, kScanCycles);
    parallel_for(last_shard - first_shard, cost, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) visit(i, *shards_[first_shard + i]);
    });
  }

  static std::vector<RowHead> Concatenate(const std::vector<std::vector<RowHead>>& parts) {
    size_t size = 0;
    for (const auto& part : parts) size += part.size();
    std::vector<RowHead> all;
    all.reserve(size);
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  }
};

}  // namespace tfps

#endif  // OPS_CORE_SHARDED_TABLE_H_
