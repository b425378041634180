// The project's own engine: rows in arenas, found by open-addressing indexes.
//
// A pull handles its keys in order and takes no lock; see ShardView. A push first sorts its keys by
// shard and then takes each shard's lock once. Both prefetch: while one key is handled, the row of
// a key further on and the index bucket of a key still further on are loaded into the cache.
#ifndef OPS_CORE_NATIVE_TABLE_H_
#define OPS_CORE_NATIVE_TABLE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "ops/core/chunk_pool.h"
#include "ops/core/push_items.h"
#include "ops/core/readers.h"
#include "ops/core/shard.h"
#include "ops/core/shard_view.h"
#include "ops/core/sharded_table.h"

namespace tfps {

class NativeTable final : public ShardedTable<Shard> {
 public:
  // `options` must be valid, as ParseTableOptions leaves them.
  // The table has room for `most_bytes` of rows and indexes.
  explicit NativeTable(const TableOptions& options, size_t most_bytes = ChunkPool::kMostBytes);
  ~NativeTable() override;

  void Pull(const uint64_t* keys, int64_t n, float* rows, int width,
            const ParallelFor& parallel_for, uint32_t* references = nullptr) const override;
  std::optional<std::string> Push(const PushBatch& batch, const ParallelFor& parallel_for) override;

 protected:
  ShardStatistics Totals() const override;

 private:
  void PullRange(const uint64_t* keys, int64_t n, float* rows, int width,
                 uint32_t* references) const;
  // Reads the row of the key if the guess was right and the row is not being changed.
  bool PullGuessed(uint64_t key, uint32_t guess, uint32_t shard, int width, float* out) const;
  uint32_t PullOne(uint64_t key, uint64_t hash, uint32_t shard, int width, float* out) const;
  bool PushRange(const PushItems& items, int64_t first_shard, int64_t last_shard,
                 const PushBatch& batch);

  mutable Readers readers_;
  ChunkPool pool_;
  const std::unique_ptr<ShardView[]> views_;  // by shard; close together, as pulls read all of them
};

}  // namespace tfps

#endif  // OPS_CORE_NATIVE_TABLE_H_
