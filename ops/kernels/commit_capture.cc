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
    const Tensor &keys = ctx->input(1), &slots = ctx->input(2), &delta_scores = ctx->input(3),
                 &removed = ctx->input(4);
    TF_RETURN_IF_ERROR(RequireKeys(keys));
    const int64_t n = keys.NumElements();
    TF_RETURN_IF_ERROR(RequireShape("slots", slots, {n}));
    TF_RETURN_IF_ERROR(RequireShape("delta_scores", delta_scores, {n}));
    TF_RETURN_IF_ERROR(RequireShape("removed", removed, {removed.NumElements()}));
    std::vector<CapturedKey> captured;
    captured.reserve(n);
    for (int64_t i = 0; i < n; ++i) {
      captured.push_back(
          {KeysOf(keys)[i], slots.flat<int32_t>()(i), delta_scores.flat<double>()(i)});
    }
    table.Commit(which_, captured, {KeysOf(removed), KeysOf(removed) + removed.NumElements()},
                 WorkerPool(ctx));
    return absl::OkStatus();
  }

 private:
  Export which_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsCommitCapture").Device(tensorflow::DEVICE_CPU), CommitCaptureOp);

}  // namespace
}  // namespace tfps
