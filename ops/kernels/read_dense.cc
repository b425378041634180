#include "ops/kernels/dense_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class ReadDenseOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    DensePtr dense;
    OP_REQUIRES_OK(ctx, FindDense(ctx, &dense));
    Tensor *floats, *integers;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {dense->num_floats()}, &floats));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, {dense->num_integers()}, &integers));
    OP_REQUIRES_OK(ctx, dense->Read(floats->flat<float>().data(),
                                    integers->flat<int64_t>().data(), WorkerPool(ctx)));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsReadDense").Device(tensorflow::DEVICE_CPU), ReadDenseOp);

}  // namespace
}  // namespace tfps
