#include <atomic>

#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

// What the process has last told of itself.
std::atomic<double> memory_share{0};

class MemoryShareOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    Tensor* share;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {}, &share));
    share->scalar<double>()() = memory_share;
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsMemoryShare").Device(tensorflow::DEVICE_CPU), MemoryShareOp);

}  // namespace
}  // namespace tfps

// For whoever watches the process's memory, through ctypes.
extern "C" __attribute__((visibility("default"))) void tfps_tell_memory_share(double share) {
  tfps::memory_share = share;
}
