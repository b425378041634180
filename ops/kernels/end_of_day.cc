#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class EndOfDayOp : public TableKernel {
 public:
  using TableKernel::TableKernel;

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    const Tensor& day = ctx->input(1);
    TF_RETURN_IF_ERROR(RequireShape("day", day, {}));
    Tensor* evicted;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({}), &evicted));
    evicted->scalar<int64_t>()() = table.EndOfDay(day.scalar<int64_t>()(), BackgroundPool(ctx));
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsEndOfDay").Device(tensorflow::DEVICE_CPU), EndOfDayOp);

}  // namespace
}  // namespace tfps
