#include "ops/tfra/table.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "ops/core/row_copies.h"
#include "ops/core/unique_index.h"
#include "ops/tfra/library.h"

namespace tfps {
namespace {

// The cycles of one key, from which the thread pool decides how finely to split.
constexpr int64_t kPullCycles = 600;
constexpr int64_t kPushCycles = 1500;

// Shards are grouped until a group has this many keys of a batch.
constexpr int64_t kGroupKeys = 256;

}  // namespace

// The positions of a batch, sorted by shard; within a shard they keep their order.
class TfraTable::Batch {
 public:
  template <typename Wanted>
  Batch(const uint64_t* keys, int64_t n, int num_shards, Wanted wanted) : ends_(num_shards + 1) {
    std::vector<int32_t> shard_of(n, -1);
    for (int64_t i = 0; i < n; ++i) {
      if (!wanted(i)) continue;
      shard_of[i] = static_cast<int32_t>(VirtualShard(keys[i], num_shards));
      ++ends_[shard_of[i] + 1];
    }
    for (int s = 0; s < num_shards; ++s) ends_[s + 1] += ends_[s];
    positions_.resize(ends_[num_shards]);
    std::vector<int64_t> next(ends_.begin(), ends_.end() - 1);
    for (int64_t i = 0; i < n; ++i) {
      if (shard_of[i] >= 0) positions_[next[shard_of[i]]++] = static_cast<int32_t>(i);
    }
  }

  int64_t size() const { return ends_.back(); }
  int64_t Begin(int64_t shard) const { return ends_[shard]; }
  int64_t End(int64_t shard) const { return ends_[shard + 1]; }
  int32_t operator[](int64_t i) const { return positions_[i]; }

  // Calls visit(first, last) for groups of the shards [first, last) that have keys.
  template <typename Visit>
  void ForEachGroup(int64_t first, int64_t last, Visit visit) const {
    while (first < last) {
      int64_t end = first + 1;
      while (end < last && End(end) - Begin(first) <= kGroupKeys) ++end;
      if (End(end - 1) > Begin(first)) visit(first, end);
      first = end;
    }
  }

  // Locks the shards of [first, last) that have keys, in order, so that threads cannot deadlock.
  template <typename Lock>
  std::vector<Lock> LockAll(const std::vector<std::unique_ptr<TfraShard>>& shards, int64_t first,
                            int64_t last) const {
    std::vector<Lock> locks;
    for (int64_t s = first; s < last; ++s) {
      if (End(s) > Begin(s)) locks.emplace_back(shards[s]->mutex());
    }
    return locks;
  }

 private:
  std::vector<int64_t> ends_;
  std::vector<int32_t> positions_;
};

absl::Status TfraTable::Create(tensorflow::OpKernelContext* ctx, const TableOptions& options,
                               std::unique_ptr<Table>* table) {
  TF_RETURN_IF_ERROR(LoadTfra());
  std::unique_ptr<TfraTable> created(new TfraTable(options));
  TF_RETURN_IF_ERROR(created->rows_.Open(ctx));
  *table = std::move(created);
  return absl::OkStatus();
}

TfraTable::TfraTable(const TableOptions& options) : ShardedTable(options), rows_(&config_) {
  for (int s = 0; s < num_shards(); ++s) {
    shards_.push_back(std::make_unique<TfraShard>(&config_, &rows_));
  }
}

void TfraTable::Pull(const uint64_t* keys, int64_t n, float* rows, int width,
                     const ParallelFor& parallel_for, uint32_t* references) const {
  if (references != nullptr) std::fill_n(references, n, kNoReference);
  const Batch by_shard(keys, n, num_shards(), [&](int64_t i) {
    const bool wanted = keys[i] != kPadding && !IsReserved(keys[i]);
    if (!wanted) std::fill_n(rows + i * width, width, 0.0f);
    return wanted;
  });
  const auto pull_group = [&](int64_t first, int64_t last) {
    const int64_t begin = by_shard.Begin(first), count = by_shard.End(last - 1) - begin;
    std::vector<uint64_t> wanted(count);
    for (int64_t i = 0; i < count; ++i) wanted[i] = keys[by_shard[begin + i]];
    RowBuffer found(config_, count);
    {
      const auto locks =
          by_shard.LockAll<std::shared_lock<std::shared_mutex>>(shards_, first, last);
      rows_.Read(wanted.data(), count, Part::kAll, &found);
    }
    for (int64_t i = 0; i < count; ++i) {
      const RowHead* row = IsAbsent(found[i]) ? nullptr : found[i];
      CopyPulled(config_, row, width, rows + int64_t{by_shard[begin + i]} * width);
    }
    for (int64_t s = first; s < last; ++s) {
      shards_[s]->CountPulled(by_shard.End(s) - by_shard.Begin(s));
    }
  };
  parallel_for(
      num_shards(), CostOfShard(by_shard.size(), kPullCycles),
      [&](int64_t first, int64_t last) { by_shard.ForEachGroup(first, last, pull_group); });
}

std::optional<std::string> TfraTable::Push(const PushBatch& batch,
                                           const ParallelFor& parallel_for) {
  Dropped dropped;
  const Batch by_shard(batch.keys, batch.n, num_shards(),
                       [&](int64_t i) { return IsPushed(batch, i, &dropped); });
  std::atomic<bool> room{true};
  parallel_for(num_shards(), CostOfShard(by_shard.size(), kPushCycles),
               [&](int64_t first, int64_t last) {
                 by_shard.ForEachGroup(first, last, [&](int64_t first, int64_t last) {
                   try {
                     PushGroup(by_shard, first, last, batch);
                   } catch (const std::exception&) {
                     room = false;
                   }
                 });
               });
  Count(dropped);
  CountOddClicks(batch);
  if (room) return std::nullopt;
  return "TFRA's tables did not take some rows, as they do when the memory is used up: give the "
         "table more servers.";
}

void TfraTable::PushGroup(const Batch& by_shard, int64_t first, int64_t last,
                          const PushBatch& batch) {
  // A key that occurs twice has one row.
  const int64_t begin = by_shard.Begin(first), count = by_shard.End(last - 1) - begin;
  std::vector<int64_t> keys;
  std::vector<uint32_t> row_of(count);
  UniqueIndex index(count);
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t key = batch.keys[by_shard[begin + i]];
    uint32_t& entry = index.Find(static_cast<int64_t>(key), SplitMix64(key), keys);
    if (entry == 0) {
      keys.push_back(static_cast<int64_t>(key));
      entry = static_cast<uint32_t>(keys.size());
    }
    row_of[i] = entry - 1;
  }
  RowBuffer rows(config_, keys.size());
  const auto locks = by_shard.LockAll<std::unique_lock<std::shared_mutex>>(shards_, first, last);
  rows_.Read(reinterpret_cast<const uint64_t*>(keys.data()), keys.size(), Part::kAll, &rows);
  PushScratch scratch;
  for (int64_t s = first; s < last; ++s) {
    for (int64_t i = by_shard.Begin(s); i < by_shard.End(s); ++i) {
      shards_[s]->PushOne(batch, by_shard[i], rows[row_of[i - begin]], &scratch);
    }
  }
  std::vector<const RowHead*> pushed;
  pushed.reserve(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!IsAbsent(rows[i])) pushed.push_back(rows[i]);
  }
  rows_.Write(pushed, Part::kAll);
  for (int64_t s = first; s < last; ++s) shards_[s]->KeepLimit();
}

}  // namespace tfps
