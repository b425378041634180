#include <vector>

#include "ops/kernels/export_kind.h"
#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class CommitCaptureOp : public OpKernel {
 public:
  explicit CommitCaptureOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ReadExportKind(ctx, &which_));
  }

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    const Tensor &keys = ctx->input(1), &delta_scores = ctx->input(2), &removed = ctx->input(3);
    OP_REQUIRES_OK(ctx, RequireKeys(keys));
    const int64_t n = keys.NumElements();
    OP_REQUIRES_OK(ctx, RequireShape("delta_scores", delta_scores, {n}));
    OP_REQUIRES_OK(ctx, RequireShape("removed", removed, {removed.NumElements()}));
    resource->table().Commit(which_, KeysOf(keys), delta_scores.flat<double>().data(), n,
                             {KeysOf(removed), KeysOf(removed) + removed.NumElements()},
                             WorkerPool(ctx));
  }

 private:
  Export which_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsCommitCapture").Device(tensorflow::DEVICE_CPU),
                        CommitCaptureOp);

}  // namespace
}  // namespace tfps
