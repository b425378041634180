#include "ops/core/native_table.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <string>

#include "ops/core/pause.h"
#include "ops/core/prefetch.h"
#include "ops/core/push_items.h"
#include "ops/core/row_copies.h"

namespace tfps {
namespace {

// The cycles of one key, from which the thread pool decides how finely to split.
constexpr int64_t kPullCycles = 100;
constexpr int64_t kPushCycles = 200;

// The keys of a block of a pull; and how many keys ahead a push prefetches rows. It prefetches
// index buckets twice as far ahead.
constexpr int64_t kBlockKeys = 16;
constexpr int64_t kAhead = 16;

// How often a pull retries a row that is being changed before it waits for the lock.
constexpr int kMostLooks = 100;

static_assert(Arena::kNone == kNoReference, "what a caller sees of an absent row");
static_assert(Arena::kNone == Index::kNone, "one none for both");

// Iterates over the rows of a batch and knows the shard of each.
struct PushCursor {
  int64_t at;
  int64_t shard;

  void Settle(const PushItems& items) {
    while (at >= items.Begin(shard + 1)) ++shard;
  }
};

}  // namespace

NativeTable::NativeTable(const TableOptions& options, size_t most_bytes)
    : ShardedTable(options),
      readers_(num_shards()),
      pool_(&readers_, most_bytes),
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

// Works in blocks: while the rows of a block are read, the rows of the next block and the index
// buckets of the block after it are prefetched.
void NativeTable::PullRange(const uint64_t* keys, int64_t n, float* rows, int width,
                            uint32_t* references) const {
  struct Block {
    uint64_t hashes[kBlockKeys];
    uint32_t shards[kBlockKeys];
    uint32_t guesses[kBlockKeys];
  };
  Block ring[3];
  constexpr int kKeyOffset = offsetof(RowHead, key);
  const int bytes = config_.pulled_bytes() - kKeyOffset;
  char* const base = pool_.base();
  const char* const keys_begin = reinterpret_cast<const char*>(Arena::At(base, 0)) + kKeyOffset;
  const uint32_t num_shards = this->num_shards();
  const int64_t blocks = (n + kBlockKeys - 1) / kBlockKeys;
  const auto for_block = [&](int64_t number, auto visit) {
    if (number < 0 || number >= blocks) return;
    const int64_t begin = number * kBlockKeys;
    const int count = static_cast<int>(std::min<int64_t>(kBlockKeys, n - begin));
    Block& block = ring[number % 3];
    for (int i = 0; i < count; ++i) visit(block, i, begin + i);
  };
  Readers::Reading reading(&readers_);
  for (int64_t number = 0; number < blocks + 2; ++number) {
    for_block(number, [&](Block& block, int i, int64_t at) {
      const uint64_t hash = SplitMix64(keys[at]);
      const uint32_t shard = VirtualShardOfHash(hash, num_shards);
      block.hashes[i] = hash;
      block.shards[i] = shard;
      views_[shard].buckets().PrefetchFor(hash);
    });
    for_block(number - 1, [&](Block& block, int i, int64_t) {
      const uint32_t guess = views_[block.shards[i]].buckets().Guess(block.hashes[i]);
      block.guesses[i] = guess;
      PrefetchBytes(keys_begin + uint64_t{guess} * ChunkPool::kPlaceBytes, bytes);
    });
    for_block(number - 2, [&](Block& block, int i, int64_t at) {
      const uint64_t key = keys[at];
      float* const out = rows + at * width;
      uint32_t handle = Arena::kNone;
      if (key == kPadding || IsReserved(key)) {
        std::fill_n(out, width, 0.0f);
      } else {
        const uint32_t shard = block.shards[i];
        reading.CountPull(shard);
        handle = block.guesses[i];
        if (!PullGuessed(key, handle, shard, width, out)) {
          handle = PullOne(key, block.hashes[i], shard, width, out);
        }
      }
      if (references != nullptr) references[at] = handle;
    });
  }
}

bool NativeTable::PullGuessed(uint64_t key, uint32_t guess, uint32_t shard, int width,
                              float* out) const {
  if (guess == Arena::kNone) return false;
  bool right = false;
  const bool read = views_[shard].TryRead([&] {
    const RowHead* row = Arena::At(pool_.base(), guess);
    right = LoadShared(&row->key) == key;
    if (right) CopyPulled(config_, row, width, out);
  });
  return read && right;
}

uint32_t NativeTable::PullOne(uint64_t key, uint64_t hash, uint32_t shard, int width,
                              float* out) const {
  char* const base = pool_.base();
  uint32_t handle = Arena::kNone;
  for (int look = 0; look < kMostLooks; ++look) {
    const bool read = views_[shard].TryRead([&] {
      handle = views_[shard].buckets().Find(
          hash, [&](uint32_t at) { return LoadShared(&Arena::At(base, at)->key) == key; });
      CopyPulled(config_, handle == Arena::kNone ? nullptr : Arena::At(base, handle), width, out);
    });
    if (read) return handle;
    Pause();
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
  CountOddClicks(batch);
  std::atomic<bool> room{true};
  parallel_for(num_shards(), CostOfShard(items.size(), kPushCycles),
               [&](int64_t first, int64_t last) {
                 if (!PushRange(items, first, last, batch)) room = false;
               });
  pool_.PrepareAhead();
  if (room) return std::nullopt;
  return "Some " + std::string(kNoRoom);
}

bool NativeTable::PushRange(const PushItems& items, int64_t first_shard, int64_t last_shard,
                            const PushBatch& batch) {
  const int64_t end = items.Begin(last_shard);
  const char* const rows_begin = reinterpret_cast<const char*>(Arena::At(pool_.base(), 0));
  const int bytes = static_cast<int>(sizeof(RowHead)) + 4 * config_.row_floats();
  PushCursor far = {items.Begin(first_shard), first_shard};
  PushCursor near = far;
  uint32_t guesses[kAhead];  // of the rows from the current one to `near`
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
    const PushItem& item = items[near.at];
    const float* const gradient = batch.gradients + int64_t{item.position} * batch.width;
    PrefetchBytes(reinterpret_cast<const char*>(gradient), 4 * batch.width);
    uint32_t& guess = guesses[near.at++ % kAhead];
    guess = item.reference == Arena::kNone ? views_[near.shard].buckets().Guess(item.hash)
                                           : Arena::kNone;
    if (guess != Arena::kNone) {
      PrefetchBytes(rows_begin + uint64_t{guess} * ChunkPool::kPlaceBytes, bytes);
    }
  };
  const Readers::Reading reading(&readers_);  // of the shards ahead
  for (int64_t i = 0; i < 2 * kAhead; ++i) far_ahead();
  for (int64_t i = 0; i < kAhead; ++i) near_ahead();
  bool room = true;
  int64_t at = items.Begin(first_shard);
  for (int64_t s = first_shard; s < last_shard; ++s) {
    const int64_t count = items.Begin(s + 1) - at;
    if (count == 0) continue;
    room &= shards_[s]->Push(&items[at], count, batch, [&] {
      const uint32_t guess = guesses[at++ % kAhead];
      far_ahead();
      near_ahead();
      return guess;
    });
  }
  return room;
}

}  // namespace tfps
