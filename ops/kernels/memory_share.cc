#include <atomic>

#include "ops/kernels/kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

// The share that the process last reported.
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

// Called through ctypes by the thread that watches the process's memory.
extern "C" __attribute__((visibility("default"))) void tfps_tell_memory_share(double share) {
  tfps::memory_share = share;
}
