#include <cstdint>
#include <random>
#include <string>

#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/platform/mutex.h"
#include "tensorflow/core/platform/tstring.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
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

class JoinRunOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const Tensor& run = ctx->input(0);
    OP_REQUIRES(ctx, run.dims() == 0,
                tensorflow::errors::InvalidArgument("run must be a scalar, not the shape ",
                                                    run.shape().DebugString(), "."));
    const std::string wanted = run.scalar<tensorflow::tstring>()();
    OP_REQUIRES(ctx, !wanted.empty(), tensorflow::errors::InvalidArgument("run must not be empty."));
    {
      tensorflow::mutex_lock lock(mutex());
      if (served().empty()) served() = wanted;
      OP_REQUIRES(ctx, served() == wanted,
                  tensorflow::errors::FailedPrecondition(
                      "this process serves another run: start it again to serve this one."));
    }
    Tensor* incarnation;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({}), &incarnation));
    incarnation->scalar<int64_t>()() = Incarnation();
  }

 private:
  static tensorflow::mutex& mutex() {
    static auto* const mutex = new tensorflow::mutex;
    return *mutex;
  }
  // The run that this process serves, empty before any; under the mutex.
  static std::string& served() {
    static auto* const served = new std::string;
    return *served;
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsJoinRun").Device(tensorflow::DEVICE_CPU), JoinRunOp);

}  // namespace
}  // namespace tfps
