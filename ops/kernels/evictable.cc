#include "ops/kernels/row_heads.h"
#include "ops/kernels/shard_range.h"
#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;

class EvictableOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    const Table& table = resource->table();
    ShardRange shards;
    OP_REQUIRES_OK(ctx, ReadShardRange(ctx, table, &shards));
    OP_REQUIRES_OK(ctx, RequireShape("day", ctx->input(3), {}));
    const int64_t day = ctx->input(3).scalar<int64_t>()();
    OP_REQUIRES_OK(ctx, OutputRowHeads(ctx, table.Evictable(shards.first, shards.last, day,
                                                            BackgroundPool(ctx))));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsEvictable").Device(tensorflow::DEVICE_CPU), EvictableOp);

}  // namespace
}  // namespace tfps
