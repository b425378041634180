#include "ops/kernels/dense_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

absl::Status RequireSize(const char* name, const Tensor& tensor, int64_t size,
                         const char* meaning) {
  if (tensor.dims() == 1 && tensor.NumElements() == size) return absl::OkStatus();
  return InvalidArgument(name, " must have the shape [", size, "], ", meaning, ", not ",
                         tensor.shape().DebugString(), ".");
}

class MergeDenseOp : public DenseKernel {
 public:
  using DenseKernel::DenseKernel;

  absl::Status Run(OpKernelContext* ctx, DenseResource& dense) override {
    const Tensor& step = ctx->input(1);
    const Tensor& floats = ctx->input(2);
    const Tensor& integers = ctx->input(3);
    const Tensor& decays = ctx->input(4);
    TF_RETURN_IF_ERROR(
        RequireSize("step", step, 3, "of ticket number, batch number and finished_below"));
    TF_RETURN_IF_ERROR(
        RequireSize("floats", floats, dense.num_floats(), "the elements of all float32 variables"));
    TF_RETURN_IF_ERROR(RequireSize("integers", integers, dense.num_integers(),
                                   "the elements of all int64 and int32 variables"));
    TF_RETURN_IF_ERROR(
        RequireSize("decays", decays, dense.num_variables(), "one for each variable"));
    const auto step_of = step.vec<int64_t>();
    const auto problem = CheckStep(step_of(0), step_of(1), step_of(2));
    if (problem) return InvalidArgument(*problem);
    return dense.Merge(ctx, step_of(0), step_of(1), step_of(2), floats.flat<float>().data(),
                       integers.flat<int64_t>().data(), decays.flat<float>().data(),
                       WorkerPool(ctx));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsMergeDense").Device(tensorflow::DEVICE_CPU), MergeDenseOp);

}  // namespace
}  // namespace tfps
