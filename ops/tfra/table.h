// The engine that keeps its rows in TFRA's tables.
//
// A batch is split by shard. The locks of a few shards are held while their rows are found, changed
// and inserted again. This makes it one atomic step, which TFRA's tables do not offer.
#ifndef OPS_TFRA_TABLE_H_
#define OPS_TFRA_TABLE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "ops/core/sharded_table.h"
#include "ops/tfra/rows.h"
#include "ops/tfra/shard.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {

class TfraTable final : public ShardedTable<TfraShard> {
 public:
  // A table on the device of `ctx`. `options` must be valid, as ParseTableOptions leaves them.
  static absl::Status Create(tensorflow::OpKernelContext* ctx, const TableOptions& options,
                             std::unique_ptr<Table>* table);

  void Pull(const uint64_t* keys, int64_t n, float* rows, int width,
            const ParallelFor& parallel_for, uint32_t* references = nullptr) const override;
  std::optional<std::string> Push(const PushBatch& batch, const ParallelFor& parallel_for) override;

 private:
  class Batch;

  explicit TfraTable(const TableOptions& options);

  void PushGroup(const Batch& by_shard, int64_t first, int64_t last, const PushBatch& batch);

  TfraRows rows_;
};

}  // namespace tfps

#endif  // OPS_TFRA_TABLE_H_
