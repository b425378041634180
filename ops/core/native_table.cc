#include "ops/core/native_table.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <string>

#include "ops/core/prefetch.h"
#include "ops/core/push_items.h"
#include "ops/core/row_copies.h"

namespace tfps {
namespace {

// What one key costs, in cycles, for the thread pool to decide how finely to split.
constexpr int64_t kPullCycles = 100;
constexpr int64_t kPushCycles = 200;

// How many keys ahead of the one in hand their rows are brought into the cache; index buckets twice
// as far.
constexpr int64_t kAhead = 16;

// How often a pull looks again at a row that is being changed before it waits for the lock.
constexpr int kMostLooks = 100;

static_assert(Arena::kNone == kNoReference, "what a caller sees of an absent row");
static_assert(Arena::kNone == Index::kNone, "one none for both");

// Goes through the rows of a batch, and knows the shard of each.
struct PushCursor {
  int64_t at;
  int64_t shard;

  void Settle(const PushItems& items) {
    while (at >= items.Begin(shard + 1)) ++shard;
  }
};

}  // namespace

NativeTable::NativeTable(const TableOptions& options)
    : ShardedTable(options),
      readers_(num_shards()),
      pool_(&readers_),
      views_(new ShardView[num_shards()]) {
  for (int s = 0; s < num_shards(); ++s) {
    shards_.push_back(std::make_unique<Shard>(&config_, &pool_, &readers_, &views_[s], s));
  }
}

NativeTable::~NativeTable() { shards_.clear(); }  // before the pool

ShardStatistics NativeTable::Totals() const {
  ShardStatistics total = ShardedTable::Totals();
  total.bytes += pool_.bytes_in_use();
  return total;
}

void NativeTable::Pull(const uint64_t* keys, int64_t n, float* rows, int width,
                       const ParallelFor& parallel_for, uint32_t* references) const {
  parallel_for(n, kPullCycles, [&](int64_t first, int64_t last) {
    PullRange(keys + first, last - first, rows + first * width, width,
              references == nullptr ? nullptr : references + first);
  });
}

void NativeTable::PullRange(const uint64_t* keys, int64_t n, float* rows, int width,
                            uint32_t* references) const {
  struct Ahead {
    uint64_t hash;
    uint32_t shard;
    uint32_t guess;
  };
  Ahead ahead[4 * kAhead];  // a ring
  const auto at = [&](int64_t i) -> Ahead& { return ahead[i % (4 * kAhead)]; };
  const uint32_t num_shards = this->num_shards();
  constexpr int kKeyOffset = offsetof(RowHead, key);
  const int bytes = config_.pulled_bytes() - kKeyOffset;
  const char* const keys_begin = reinterpret_cast<const char*>(Arena::At(pool_.base(), 0)) + kKeyOffset;
  Readers::Reading reading(&readers_);
  for (int64_t i = -2 * kAhead; i < n; ++i) {
    if (const int64_t far = i + 2 * kAhead; far < n) {
      Ahead& key = at(far);
      key.hash = SplitMix64(keys[far]);
      key.shard = VirtualShardOfHash(key.hash, num_shards);
      views_[key.shard].buckets().PrefetchFor(key.hash);
    }
    if (const int64_t near = i + kAhead; near >= 0 && near < n) {
      Ahead& key = at(near);
      key.guess = views_[key.shard].buckets().Guess(key.hash);
      if (key.guess != Arena::kNone) {
        PrefetchBytes(keys_begin + uint64_t{key.guess} * ChunkPool::kPlaceBytes, bytes);
      }
    }
    if (i < 0) continue;
    float* const out = rows + i * width;
    uint32_t handle = Arena::kNone;
    if (keys[i] == kPadding || IsReserved(keys[i])) {
      std::fill_n(out, width, 0.0f);
    } else {
      const Ahead& key = at(i);
      handle = PullOne(keys[i], key.hash, key.shard, key.guess, width, out);
      reading.CountPull(key.shard);
    }
    if (references != nullptr) references[i] = handle;
  }
}

uint32_t NativeTable::PullOne(uint64_t key, uint64_t hash, uint32_t shard, uint32_t guess,
                              int width, float* out) const {
  const ShardView& view = views_[shard];
  char* const base = pool_.base();
  const auto has_key = [&](uint32_t handle) {
    return LoadShared(&Arena::At(base, handle)->key) == key;
  };
  uint32_t handle = Arena::kNone;
  const auto read = [&] {
    const bool guessed = guess != Arena::kNone && has_key(guess);
    handle = guessed ? guess : view.buckets().Find(hash, has_key);
    CopyPulled(config_, handle == Arena::kNone ? nullptr : Arena::At(base, handle), width, out);
  };
  for (int look = 0; look < kMostLooks; ++look) {
    if (view.TryRead(read)) return handle;
    __builtin_ia32_pause();
  }
  return shards_[shard]->PullLocked(key, width, out);
}

std::optional<std::string> NativeTable::Push(const PushBatch& batch,
                                             const ParallelFor& parallel_for) {
  const PushItems items(batch, num_shards(), parallel_for, [&](int64_t i) {
    Dropped uncounted;
    return IsPushed(batch, i, &uncounted);
  });
  if (items.size() < batch.n) {
    Dropped dropped;
    for (int64_t i = 0; i < batch.n; ++i) IsPushed(batch, i, &dropped);
    Count(dropped);
  }
  std::atomic<bool> room{true};
  parallel_for(num_shards(), CostOfShard(items.size(), kPushCycles),
               [&](int64_t first, int64_t last) {
                 if (!PushRange(items, first, last, batch)) room = false;
               });
  if (room) return std::nullopt;
  return "Some " + std::string(kNoRoom);
}

bool NativeTable::PushRange(const PushItems& items, int64_t first_shard, int64_t last_shard,
                            const PushBatch& batch) {
  const int64_t end = items.Begin(last_shard);
  const char* const rows_begin = reinterpret_cast<const char*>(Arena::At(pool_.base(), 0));
  const int bytes = config_.row_bytes();
  PushCursor far = {items.Begin(first_shard), first_shard};
  PushCursor near = far;
  const auto far_ahead = [&] {
    if (far.at == end) return;
    far.Settle(items);
    const PushItem& item = items[far.at++];
    if (item.reference == Arena::kNone) {
      views_[far.shard].buckets().PrefetchFor(item.hash);
    } else {
      shards_[far.shard]->PrefetchReference(item.reference);
    }
  };
  const auto near_ahead = [&] {
    if (near.at == end) return;
    near.Settle(items);
    const PushItem& item = items[near.at++];
    PrefetchBytes(reinterpret_cast<const char*>(batch.gradients + int64_t{item.position} * batch.width),
                  4 * batch.width);
    if (item.reference != Arena::kNone) return;
    const uint32_t guess = views_[near.shard].buckets().Guess(item.hash);
    if (guess == Arena::kNone) return;
    PrefetchBytes(rows_begin + uint64_t{guess} * ChunkPool::kPlaceBytes, bytes);
  };
  const Readers::Reading reading(&readers_);  // of the shards ahead
  for (int64_t i = 0; i < 2 * kAhead; ++i) far_ahead();
  for (int64_t i = 0; i < kAhead; ++i) near_ahead();
  bool room = true;
  for (int64_t s = first_shard; s < last_shard; ++s) {
    const int64_t begin = items.Begin(s), count = items.Begin(s + 1) - begin;
    if (count == 0) continue;
    room &= shards_[s]->Push(&items[begin], count, batch.gradients, batch.width, [&] {
      far_ahead();
      near_ahead();
    });
  }
  return room;
}

}  // namespace tfps
