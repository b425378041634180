// Heads of rows as the op's first four outputs: keys, slots, statistics, unseen_days.
#ifndef OPS_KERNELS_ROW_HEADS_H_
#define OPS_KERNELS_ROW_HEADS_H_

#include <vector>

#include "ops/kernels/table_resource.h"

namespace tfps {

inline absl::Status OutputRowHeads(tensorflow::OpKernelContext* ctx,
                                   const std::vector<RowHead>& rows) {
  const int64_t n = static_cast<int64_t>(rows.size());
  tensorflow::Tensor *keys, *slots, *statistics, *unseen_days;
  TF_RETURN_IF_ERROR(ctx->allocate_output(0, {n}, &keys));
  TF_RETURN_IF_ERROR(ctx->allocate_output(1, {n}, &slots));
  TF_RETURN_IF_ERROR(ctx->allocate_output(2, {n, 3}, &statistics));
  TF_RETURN_IF_ERROR(ctx->allocate_output(3, {n}, &unseen_days));
  for (int64_t i = 0; i < n; ++i) {
    const RowHead& row = rows[i];
    keys->vec<int64_t>()(i) = static_cast<int64_t>(row.key);
    slots->vec<int32_t>()(i) = row.slot;
    statistics->matrix<double>()(i, 0) = row.show;
    statistics->matrix<double>()(i, 1) = row.click;
    statistics->matrix<double>()(i, 2) = row.delta_score;
    unseen_days->vec<int32_t>()(i) = row.unseen_days;
  }
  return absl::OkStatus();
}

}  // namespace tfps

#endif  // OPS_KERNELS_ROW_HEADS_H_
