#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class PullOp : public TableKernel {
 public:
  explicit PullOp(OpKernelConstruction* ctx) : TableKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("row_width", &row_width_));
  }

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    const Tensor& keys = ctx->input(1);
    TF_RETURN_IF_ERROR(RequireKeys(keys));
    TF_RETURN_IF_ERROR(RequireRowWidth("row_width", row_width_, table));
    const int64_t n = keys.NumElements();
    Tensor* rows;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({n, row_width_}), &rows));
    table.Pull(KeysOf(keys), n, rows->flat<float>().data(), row_width_, WorkerPool(ctx));
    return absl::OkStatus();
  }

 private:
  int row_width_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsPull").Device(tensorflow::DEVICE_CPU), PullOp);

}  // namespace
}  // namespace tfps
