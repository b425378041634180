#include "ops/kernels/clocked_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class SetClockOp : public ClockedKernel {
 public:
  using ClockedKernel::ClockedKernel;

  absl::Status Run(OpKernelContext* ctx, ClockedResource& resource) override {
    const Tensor& finished_below = ctx->input(1);
    if (finished_below.dims() != 0) {
      return InvalidArgument("finished_below must be a scalar, not of the shape ",
                             finished_below.shape().DebugString(), ".");
    }
    const int64_t number = finished_below.scalar<int64_t>()();
    if (number < 0) {
      return InvalidArgument("finished_below must be 0 or more, not ", number, ".");
    }
    resource.SetClock(number);
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsSetClock").Device(tensorflow::DEVICE_CPU), SetClockOp);

}  // namespace
}  // namespace tfps
