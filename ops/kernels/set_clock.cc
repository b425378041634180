#include "ops/kernels/clocked_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class SetClockOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    ClockedPtr resource;
    OP_REQUIRES_OK(ctx, FindClocked(ctx, &resource));
    const Tensor& finished_below = ctx->input(1);
    OP_REQUIRES(ctx, tensorflow::TensorShapeUtils::IsScalar(finished_below.shape()),
                tensorflow::errors::InvalidArgument("finished_below must be a scalar, not of the shape ",
                                                    finished_below.shape().DebugString(), "."));
    const int64_t number = finished_below.scalar<int64_t>()();
    OP_REQUIRES(ctx, number >= 0,
                tensorflow::errors::InvalidArgument(
                    "finished_below must be 0 or more, not ", number, "."));
    resource->SetClock(number);
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsSetClock").Device(tensorflow::DEVICE_CPU), SetClockOp);

}  // namespace
}  // namespace tfps
