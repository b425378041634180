#include <atomic>

#include "ops/kernels/kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

// The exit code that the chief sent to this process, or -1.
std::atomic<int> end_signal{-1};

class EndProcessOp : public Kernel {
 public:
  using Kernel::Kernel;

  absl::Status Run(OpKernelContext* ctx) override {
    const Tensor& exit_code = ctx->input(0);
    if (exit_code.dims() != 0) {
      return InvalidArgument("exit_code must be a scalar, not the shape ",
                             exit_code.shape().DebugString(), ".");
    }
    const int code = exit_code.scalar<int32_t>()();
    if (code < 0 || code > 255) {
      return InvalidArgument("exit_code must be from 0 to 255, not ", code, ".");
    }
    end_signal = code;
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsEndProcess").Device(tensorflow::DEVICE_CPU), EndProcessOp);

}  // namespace
}  // namespace tfps

// Called through ctypes by the main loop of a worker or parameter server.
extern "C" __attribute__((visibility("default"))) int tfps_end_signal() { return tfps::end_signal; }
