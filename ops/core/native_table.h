// The project's own engine: rows in arenas, found by open-addressing indexes.
//
// A batch is sorted by shard first, and takes each shard's lock once.
#ifndef OPS_CORE_NATIVE_TABLE_H_
#define OPS_CORE_NATIVE_TABLE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "ops/core/chunk_pool.h"
#include "ops/core/shard.h"
#include "ops/core/sharded_table.h"

namespace tfps {

class NativeTable final : public ShardedTable<Shard> {
 public:
  // `options` must be valid, as ParseTableOptions leaves them.
  explicit NativeTable(const TableOptions& options);
  ~NativeTable() override;

  void Pull(const uint64_t* keys, int64_t n, float* rows, int width,
            const ParallelFor& parallel_for, uint32_t* references = nullptr) const override;
  std::optional<std::string> Push(const PushBatch& batch,
                                  const ParallelFor& parallel_for) override;

 protected:
  ShardStatistics Totals() const override;

 private:
  ChunkPool pool_;
};

}  // namespace tfps

#endif  // OPS_CORE_NATIVE_TABLE_H_
