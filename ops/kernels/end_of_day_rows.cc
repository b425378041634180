#include <optional>
#include <utility>
#include <vector>

#include "ops/kernels/row_heads.h"
#include "ops/kernels/shard_range.h"
#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class EndOfDayRowsOp : public TableKernel {
 public:
  explicit EndOfDayRowsOp(OpKernelConstruction* ctx) : TableKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("only_announced", &only_announced_));
  }

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    ShardRange shards;
    TF_RETURN_IF_ERROR(ReadShardRange(ctx, table, &shards));
    TF_RETURN_IF_ERROR(RequireShape("day", ctx->input(3), {}));
    const int64_t day = ctx->input(3).scalar<int64_t>()();
    const Tensor& keys = ctx->input(4);
    TF_RETURN_IF_ERROR(RequireKeys(keys));
    std::optional<std::vector<uint64_t>> announced;
    if (only_announced_) announced.emplace(KeysOf(keys), KeysOf(keys) + keys.NumElements());
    return OutputRowHeads(ctx, table.EndOfDayRows(shards.first, shards.last, day,
                                                  std::move(announced), BackgroundPool(ctx)));
  }

 private:
  bool only_announced_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsEndOfDayRows").Device(tensorflow::DEVICE_CPU), EndOfDayRowsOp);

}  // namespace
}  // namespace tfps
