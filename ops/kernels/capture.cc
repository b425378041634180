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
    OP_REQUIRES_OK(ctx, ctx->GetAttr("counts", &counts_));
  }

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    const Tensor& slots = ctx->input(1);
    TF_RETURN_IF_ERROR(RequireShape("slots", slots, {slots.NumElements()}));
    const int32_t* const begin = slots.flat<int32_t>().data();
    ExportQuery query = {which_, {begin, begin + slots.NumElements()}};
    std::sort(query.slots.begin(), query.slots.end());
    Tensor *keys = nullptr, *row_slots = nullptr, *rows = nullptr, *delta_scores = nullptr;
    const int width = table.row_width() + (counts_ ? 2 : 0);
    absl::Status status;
    std::vector<Removal> removed;
    const auto problem = table.Capture(
        query,
        [&](int64_t n) -> ExportColumns {
          status = ctx->allocate_output(0, {n}, &keys);
          status.Update(ctx->allocate_output(1, {n}, &row_slots));
          status.Update(ctx->allocate_output(2, {n, width}, &rows));
          status.Update(ctx->allocate_output(3, {n}, &delta_scores));
          if (!status.ok()) return {nullptr, nullptr, nullptr, nullptr, width};
          return {reinterpret_cast<uint64_t*>(keys->flat<int64_t>().data()),
                  row_slots->flat<int32_t>().data(), rows->flat<float>().data(),
                  delta_scores->flat<double>().data(), width};
        },
        &removed, WorkerPool(ctx));
    TF_RETURN_IF_ERROR(status);
    if (problem) return FailedPrecondition(*problem);
    if (keys != nullptr) TF_RETURN_IF_ERROR(CheckFinite(*keys, *rows));
    Tensor *removed_keys, *removed_slots;
    const int64_t num_removed = static_cast<int64_t>(removed.size());
    TF_RETURN_IF_ERROR(ctx->allocate_output(4, {num_removed}, &removed_keys));
    TF_RETURN_IF_ERROR(ctx->allocate_output(5, {num_removed}, &removed_slots));
    for (int64_t i = 0; i < num_removed; ++i) {
      removed_keys->flat<int64_t>()(i) = static_cast<int64_t>(removed[i].key);
      removed_slots->flat<int32_t>()(i) = removed[i].slot;
    }
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
  bool counts_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsCapture").Device(tensorflow::DEVICE_CPU), CaptureOp);

}  // namespace
}  // namespace tfps
