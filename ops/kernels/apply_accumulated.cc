#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class ApplyAccumulatedOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    Tensor* rows;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {}, &rows));
    const auto problem =
        resource->table().ApplyAccumulated(WorkerPool(ctx), &rows->scalar<int64_t>()());
    OP_REQUIRES(ctx, !problem, tensorflow::errors::ResourceExhausted(*problem));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsApplyAccumulated").Device(tensorflow::DEVICE_CPU),
                        ApplyAccumulatedOp);

}  // namespace
}  // namespace tfps
