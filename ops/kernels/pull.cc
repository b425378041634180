#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class PullOp : public OpKernel {
 public:
  explicit PullOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("row_width", &row_width_));
  }

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    const Table& table = resource->table();
    const Tensor& keys = ctx->input(1);
    OP_REQUIRES_OK(ctx, RequireKeys(keys));
    OP_REQUIRES_OK(ctx, RequireRowWidth("row_width", row_width_, table));
    const int64_t n = keys.NumElements();
    Tensor* rows;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({n, row_width_}), &rows));
    table.Pull(KeysOf(keys), n, rows->flat<float>().data(), row_width_, WorkerPool(ctx));
  }

 private:
  int row_width_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsPull").Device(tensorflow::DEVICE_CPU), PullOp);

}  // namespace
}  // namespace tfps
