#include <algorithm>

#include "ops/kernels/shard_range.h"
#include "ops/kernels/table_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class KeysOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    const Table& table = resource->table();
    ShardRange shards;
    OP_REQUIRES_OK(ctx, ReadShardRange(ctx, table, &shards));
    const std::vector<uint64_t> found = table.Keys(shards.first, shards.last);
    Tensor* keys;
    OP_REQUIRES_OK(
        ctx, ctx->allocate_output(0, TensorShape({static_cast<int64_t>(found.size())}), &keys));
    std::copy(found.begin(), found.end(), keys->flat<int64_t>().data());
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsKeys").Device(tensorflow::DEVICE_CPU), KeysOp);

}  // namespace
}  // namespace tfps
