#include <algorithm>

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
    OP_REQUIRES_OK(ctx, RequireShape("first_shard", ctx->input(1), {}));
    OP_REQUIRES_OK(ctx, RequireShape("last_shard", ctx->input(2), {}));
    const int first = ctx->input(1).scalar<int32_t>()();
    const int last = ctx->input(2).scalar<int32_t>()();
    OP_REQUIRES(ctx, 0 <= first && first <= last && last <= table.num_shards(),
                tensorflow::errors::InvalidArgument(
                    "first_shard and last_shard must be a range within 0 to ", table.num_shards(),
                    " (num_shards), not ", first, " to ", last, "."));
    const std::vector<uint64_t> found = table.Keys(first, last);
    Tensor* keys;
    OP_REQUIRES_OK(
        ctx, ctx->allocate_output(0, TensorShape({static_cast<int64_t>(found.size())}), &keys));
    std::copy(found.begin(), found.end(), keys->flat<int64_t>().data());
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsKeys").Device(tensorflow::DEVICE_CPU), KeysOp);

}  // namespace
}  // namespace tfps
