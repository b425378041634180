#include <atomic>

#include "ops/kernels/kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

// What the process has last told of itself.
std::atomic<double> memory_share{0};

class MemoryShareOp : public Kernel {
 public:
  using Kernel::Kernel;

  absl::Status Run(OpKernelContext* ctx) override {
    Tensor* share;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, {}, &share));
    share->scalar<double>()() = memory_share;
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsMemoryShare").Device(tensorflow::DEVICE_CPU), MemoryShareOp);

}  // namespace
}  // namespace tfps

// For whoever watches the process's memory, through ctypes.
extern "C" __attribute__((visibility("default"))) void tfps_tell_memory_share(double share) {
  tfps::memory_share = share;
}
