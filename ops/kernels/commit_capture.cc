#include <vector>

#include "ops/kernels/export_kind.h"
#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class CommitCaptureOp : public TableKernel {
 public:
  explicit CommitCaptureOp(OpKernelConstruction* ctx) : TableKernel(ctx) {
    OP_REQUIRES_OK(ctx, ReadExportKind(ctx, &which_));
  }

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    const Tensor &keys = ctx->input(1), &delta_scores = ctx->input(2), &removed = ctx->input(3);
    TF_RETURN_IF_ERROR(RequireKeys(keys));
    const int64_t n = keys.NumElements();
    TF_RETURN_IF_ERROR(RequireShape("delta_scores", delta_scores, {n}));
    TF_RETURN_IF_ERROR(RequireShape("removed", removed, {removed.NumElements()}));
    table.Commit(which_, KeysOf(keys), delta_scores.flat<double>().data(), n,
                 {KeysOf(removed), KeysOf(removed) + removed.NumElements()}, WorkerPool(ctx));
    return absl::OkStatus();
  }

 private:
  Export which_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsCommitCapture").Device(tensorflow::DEVICE_CPU), CommitCaptureOp);

}  // namespace
}  // namespace tfps
