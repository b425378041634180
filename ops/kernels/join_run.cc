#include <cstdint>
#include <mutex>
#include <random>
#include <string>

#include "ops/kernels/kernel.h"
#include "tensorflow/core/platform/tstring.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

int64_t Incarnation() {
  static const int64_t incarnation = [] {
    std::random_device random;
    return static_cast<int64_t>(static_cast<uint64_t>(random()) << 32 | random());
  }();
  return incarnation;
}

class JoinRunOp : public Kernel {
 public:
  using Kernel::Kernel;

  absl::Status Run(OpKernelContext* ctx) override {
    const Tensor& run = ctx->input(0);
    if (run.dims() != 0) {
      return InvalidArgument("run must be a scalar, not the shape ", run.shape().DebugString(),
                             ".");
    }
    const std::string wanted = run.scalar<tensorflow::tstring>()();
    if (wanted.empty()) return InvalidArgument("run must not be empty.");
    {
      std::lock_guard<std::mutex> lock(mutex());
      if (served().empty()) served() = wanted;
      if (served() != wanted) {
        return FailedPrecondition(
            "this process serves another run: start it again to serve this one.");
      }
    }
    Tensor* incarnation;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({}), &incarnation));
    incarnation->scalar<int64_t>()() = Incarnation();
    return absl::OkStatus();
  }

 private:
  static std::mutex& mutex() {
    static auto* const mutex = new std::mutex;
    return *mutex;
  }
  // The run that this process serves, or empty. Guarded by the mutex.
  static std::string& served() {
    static auto* const served = new std::string;
    return *served;
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsJoinRun").Device(tensorflow::DEVICE_CPU), JoinRunOp);

}  // namespace
}  // namespace tfps
