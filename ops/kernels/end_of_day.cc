#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class EndOfDayOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    const Tensor& day = ctx->input(1);
    OP_REQUIRES_OK(ctx, RequireShape("day", day, {}));
    Tensor* evicted;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({}), &evicted));
    evicted->scalar<int64_t>()() =
        resource->table().EndOfDay(day.scalar<int64_t>()(), BackgroundPool(ctx));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsEndOfDay").Device(tensorflow::DEVICE_CPU), EndOfDayOp);

}  // namespace
}  // namespace tfps
