#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class PullCountsOp : public TableKernel {
 public:
  using TableKernel::TableKernel;

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    const Tensor& keys = ctx->input(1);
    TF_RETURN_IF_ERROR(RequireKeys(keys));
    const int64_t n = keys.NumElements();
    Tensor* counts;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({n, 2}), &counts));
    table.PullCounts(KeysOf(keys), n, counts->flat<float>().data(), WorkerPool(ctx));
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsPullCounts").Device(tensorflow::DEVICE_CPU), PullCountsOp);

}  // namespace
}  // namespace tfps
