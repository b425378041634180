#include "ops/core/native_table.h"

#include <algorithm>
#include <atomic>
#include <string>

namespace tfps {
namespace {

// What one key costs, in cycles, for the thread pool to decide how finely to split.
constexpr int64_t kPullCycles = 200;
constexpr int64_t kPushCycles = 400;

static_assert(Arena::kNone == kNoReference, "what a caller sees of an absent row");

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

NativeTable::NativeTable(const TableOptions& options) : ShardedTable(options) {
  for (int s = 0; s < num_shards(); ++s)
    shards_.push_back(std::make_unique<Shard>(&config_, &pool_));
}

NativeTable::~NativeTable() { shards_.clear(); }  // before the pool

ShardStatistics NativeTable::Totals() const {
  ShardStatistics total = ShardedTable::Totals();
  total.bytes += pool_.bytes_in_use();
  return total;
}

void NativeTable::Pull(const uint64_t* keys, int64_t n, float* rows, int width,
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

std::optional<std::string> NativeTable::Push(const PushBatch& batch,
                                             const ParallelFor& parallel_for) {
  Dropped dropped;
  const KeysByShard by_shard(batch.keys, batch.references, batch.n, num_shards(),
                             [&](int64_t i) { return IsPushed(batch, i, &dropped); });
  std::atomic<bool> room{true};
  parallel_for(num_shards(), CostOfShard(by_shard.size(), kPushCycles),
               [&](int64_t first, int64_t last) {
                 by_shard.ForEachShard(shards_, first, last,
                                       [&](Shard* shard, const KeyAt* part, int64_t count) {
                                         if (!shard->Push(part, count, batch)) room = false;
                                       });
               });
  Count(dropped);
  if (room) return std::nullopt;
  return "Some rows found no room: the memory is used up, or a shard holds its most of 128 MiB of "
         "rows; give the "
         "table more servers or more than num_shards=" +
         std::to_string(num_shards()) + ".";
}

}  // namespace tfps
