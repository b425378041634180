#include "ops/kernels/row_heads.h"
#include "ops/kernels/shard_range.h"
#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;

class EvictableOp : public TableKernel {
 public:
  using TableKernel::TableKernel;

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    ShardRange shards;
    TF_RETURN_IF_ERROR(ReadShardRange(ctx, table, &shards));
    TF_RETURN_IF_ERROR(RequireShape("day", ctx->input(3), {}));
    const int64_t day = ctx->input(3).scalar<int64_t>()();
    return OutputRowHeads(ctx,
                          table.Evictable(shards.first, shards.last, day, BackgroundPool(ctx)));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsEvictable").Device(tensorflow::DEVICE_CPU), EvictableOp);

}  // namespace
}  // namespace tfps
