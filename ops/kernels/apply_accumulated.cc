#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class ApplyAccumulatedOp : public TableKernel {
 public:
  using TableKernel::TableKernel;

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    Tensor* rows;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, {}, &rows));
    const auto problem = table.ApplyAccumulated(WorkerPool(ctx), &rows->scalar<int64_t>()());
    if (problem) return ResourceExhausted(*problem);
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsApplyAccumulated").Device(tensorflow::DEVICE_CPU),
                        ApplyAccumulatedOp);

}  // namespace
}  // namespace tfps
