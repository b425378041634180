#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class CountEvictableOp : public TableKernel {
 public:
  using TableKernel::TableKernel;

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    TF_RETURN_IF_ERROR(RequireShape("day", ctx->input(1), {}));
    const auto counts =
        table.CountEvictable(ctx->input(1).scalar<int64_t>()(), BackgroundPool(ctx));
    const TensorShape shape({static_cast<int64_t>(counts.size())});
    Tensor *slots, *rows;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, shape, &slots));
    TF_RETURN_IF_ERROR(ctx->allocate_output(1, shape, &rows));
    int64_t i = 0;
    for (const auto& [slot, count] : counts) {
      slots->vec<int32_t>()(i) = slot;
      rows->vec<int64_t>()(i++) = count;
    }
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsCountEvictable").Device(tensorflow::DEVICE_CPU),
                        CountEvictableOp);

}  // namespace
}  // namespace tfps
