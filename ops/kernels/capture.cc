#include <algorithm>
#include <vector>

#include "ops/core/finite.h"
#include "ops/kernels/export_kind.h"
#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class CaptureOp : public TableKernel {
 public:
  explicit CaptureOp(OpKernelConstruction* ctx) : TableKernel(ctx) {
    OP_REQUIRES_OK(ctx, ReadExportKind(ctx, &which_));
  }

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    Tensor *keys = nullptr, *rows = nullptr, *delta_scores = nullptr;
    absl::Status status;
    std::vector<uint64_t> removed;
    const auto problem = table.Capture(
        which_,
        [&](int64_t n) -> ExportColumns {
          status = ctx->allocate_output(0, {n}, &keys);
          status.Update(ctx->allocate_output(1, {n, table.row_width()}, &rows));
          status.Update(ctx->allocate_output(2, {n}, &delta_scores));
          if (!status.ok()) return {nullptr, nullptr, nullptr};
          return {reinterpret_cast<uint64_t*>(keys->flat<int64_t>().data()),
                  rows->flat<float>().data(), delta_scores->flat<double>().data()};
        },
        &removed, WorkerPool(ctx));
    TF_RETURN_IF_ERROR(status);
    if (problem) return FailedPrecondition(*problem);
    if (keys != nullptr) TF_RETURN_IF_ERROR(CheckFinite(*keys, *rows));
    Tensor* removed_out;
    TF_RETURN_IF_ERROR(
        ctx->allocate_output(3, {static_cast<int64_t>(removed.size())}, &removed_out));
    std::copy(removed.begin(), removed.end(), removed_out->flat<int64_t>().data());
    return absl::OkStatus();
  }

 private:
  static absl::Status CheckFinite(const Tensor& keys, const Tensor& rows) {
    const float* const floats = rows.flat<float>().data();
    if (AllFinite(floats, rows.NumElements())) return absl::OkStatus();
    const int64_t width = rows.dim_size(1);
    int64_t i = 0;
    while (AllFinite(floats + i * width, width)) ++i;
    return DataLoss(NonfiniteRow(static_cast<uint64_t>(keys.vec<int64_t>()(i))));
  }

  Export which_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsCapture").Device(tensorflow::DEVICE_CPU), CaptureOp);

}  // namespace
}  // namespace tfps
