#include "ops/kernels/dense_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class ReadDenseOp : public DenseKernel {
 public:
  using DenseKernel::DenseKernel;

  absl::Status Run(OpKernelContext* ctx, DenseResource& dense) override {
    Tensor *floats, *integers;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, {dense.num_floats()}, &floats));
    TF_RETURN_IF_ERROR(ctx->allocate_output(1, {dense.num_integers()}, &integers));
    return dense.Read(floats->flat<float>().data(), integers->flat<int64_t>().data(),
                      WorkerPool(ctx));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsReadDense").Device(tensorflow::DEVICE_CPU), ReadDenseOp);

}  // namespace
}  // namespace tfps
