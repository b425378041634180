#include <algorithm>

#include "ops/kernels/shard_range.h"
#include "ops/kernels/table_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class KeysOp : public TableKernel {
 public:
  using TableKernel::TableKernel;

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    ShardRange shards;
    TF_RETURN_IF_ERROR(ReadShardRange(ctx, table, &shards));
    const std::vector<uint64_t> found = table.Keys(shards.first, shards.last);
    Tensor* keys;
    TF_RETURN_IF_ERROR(
        ctx->allocate_output(0, TensorShape({static_cast<int64_t>(found.size())}), &keys));
    std::copy(found.begin(), found.end(), keys->flat<int64_t>().data());
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsKeys").Device(tensorflow::DEVICE_CPU), KeysOp);

}  // namespace
}  // namespace tfps
