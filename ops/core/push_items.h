// The rows of a batch of pushes, sorted by shard; rows of one shard keep their order.
#ifndef OPS_CORE_PUSH_ITEMS_H_
#define OPS_CORE_PUSH_ITEMS_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "ops/core/arena.h"
#include "ops/core/hash.h"
#include "ops/core/parallel.h"
#include "ops/core/push_batch.h"
#include "ops/core/shard.h"

namespace tfps {

class PushItems {
 public:
  // Takes each row `i` with wanted(i), which is called twice for each row and by several threads.
  template <typename Wanted>
  PushItems(const PushBatch& batch, uint32_t num_shards, const ParallelFor& parallel_for,
            Wanted wanted)
      : ends_(num_shards) {
    // Each block counts its rows by shard; from these counts follows where its rows go.
    const int64_t blocks = std::clamp<int64_t>(batch.n / kBlockRows, 1, kMostBlocks);
    std::vector<uint32_t> places(blocks * num_shards);
    const auto for_each_row = [&](auto visit) {
      parallel_for(blocks, batch.n / blocks * kCyclesPerRow, [&](int64_t first, int64_t last) {
        for (int64_t block = first; block < last; ++block) {
          uint32_t* const of_block = &places[block * num_shards];
          const int64_t end = batch.n * (block + 1) / blocks;
          for (int64_t i = batch.n * block / blocks; i < end; ++i) {
            if (!wanted(i)) continue;
            const uint64_t hash = SplitMix64(batch.keys[i]);
            visit(i, hash, &of_block[VirtualShardOfHash(hash, num_shards)]);
          }
        }
      });
    };
    for_each_row([](int64_t, uint64_t, uint32_t* place) { ++*place; });
    uint32_t size = 0;
    for (uint32_t shard = 0; shard < num_shards; ++shard) {
      for (int64_t block = 0; block < blocks; ++block) {
        const uint32_t count = places[block * num_shards + shard];
        places[block * num_shards + shard] = size;
        size += count;
      }
      ends_[shard] = size;
    }
    items_.reset(new PushItem[size]);
    for_each_row([&](int64_t i, uint64_t hash, uint32_t* place) {
      items_[(*place)++] = {batch.keys[i],
                            static_cast<uint32_t>(i),
                            batch.references == nullptr ? Arena::kNone : batch.references[i],
                            static_cast<uint32_t>(hash),
                            batch.slots[i],
                            batch.show[i],
                            batch.click[i]};
    });
  }

  int64_t size() const { return ends_.back(); }

  // Where the rows of a shard begin; the next shard's rows follow them.
  int64_t Begin(int64_t shard) const { return shard == 0 ? 0 : ends_[shard - 1]; }
  const PushItem& operator[](int64_t i) const { return items_[i]; }

 private:
  static constexpr int64_t kBlockRows =
      16384;  // With fewer rows, waking a thread costs more than it saves.
  static constexpr int64_t kMostBlocks = 16;
  static constexpr int64_t kCyclesPerRow = 10;

  std::vector<uint32_t> ends_;
  std::unique_ptr<PushItem[]> items_;
};

}  // namespace tfps

#endif  // OPS_CORE_PUSH_ITEMS_H_
