// Reads and checks the inputs of the kernels over bags.
#ifndef OPS_KERNELS_BAGS_H_
#define OPS_KERNELS_BAGS_H_

#include <string>
#include <vector>

#include "ops/core/bags.h"
#include "ops/core/pool.h"
#include "ops/kernels/errors.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {

inline absl::Status CheckRank(const char* name, const tensorflow::Tensor& tensor, int rank) {
  if (tensor.dims() == rank) return absl::OkStatus();
  return InvalidArgument(name, " must have rank ", rank, ", not the shape ",
                         tensor.shape().DebugString(), ".");
}

// Bags of these positions and row_splits. One of num_slots and batch_size may be -1: it then
// follows from row_splits.
inline absl::Status ReadBags(const tensorflow::Tensor& positions,
                             const tensorflow::Tensor& row_splits, int64_t num_slots,
                             int64_t batch_size, int64_t num_rows, Bags* bags) {
  TF_RETURN_IF_ERROR(CheckRank("positions", positions, 1));
  TF_RETURN_IF_ERROR(CheckRank("row_splits", row_splits, 1));
  const int64_t num_bags = row_splits.dim_size(0) - 1;
  if (num_slots < 0) num_slots = batch_size > 0 ? num_bags / batch_size : 0;
  if (batch_size < 0) batch_size = num_slots > 0 ? num_bags / num_slots : 0;
  if (num_bags < 0 || num_slots * batch_size != num_bags) {
    return InvalidArgument("row_splits must have slots * batch + 1 elements, but it has ",
                           num_bags + 1, " with ", num_slots, " slots of ", batch_size,
                           " examples.");
  }
  *bags = {positions.flat<int32_t>().data(), positions.dim_size(0),
           row_splits.flat<int64_t>().data(), num_slots, batch_size};
  const std::string problem = CheckBags(*bags, num_rows);
  if (!problem.empty()) return InvalidArgument(problem);
  return absl::OkStatus();
}

// Bags of the inputs "positions" and "row_splits".
inline absl::Status ReadBags(tensorflow::OpKernelContext* ctx, int64_t num_slots,
                             int64_t batch_size, int64_t num_rows, Bags* bags) {
  const tensorflow::Tensor *positions, *row_splits;
  TF_RETURN_IF_ERROR(ctx->input("positions", &positions));
  TF_RETURN_IF_ERROR(ctx->input("row_splits", &row_splits));
  return ReadBags(*positions, *row_splits, num_slots, batch_size, num_rows, bags);
}

// The input "weights", which is empty where every weight is 1.
inline absl::Status ReadWeights(tensorflow::OpKernelContext* ctx, const Bags& bags,
                                const float** weights) {
  const tensorflow::Tensor* tensor;
  TF_RETURN_IF_ERROR(ctx->input("weights", &tensor));
  TF_RETURN_IF_ERROR(CheckRank("weights", *tensor, 1));
  const int64_t size = tensor->dim_size(0);
  if (size != 0 && size != bags.num_ids) {
    return InvalidArgument("weights must be empty or have one element per position, ", bags.num_ids,
                           ", not ", size, ".");
  }
  *weights = size == 0 ? nullptr : tensor->flat<float>().data();
  return absl::OkStatus();
}

// The input "num_rows".
inline absl::Status ReadNumRows(tensorflow::OpKernelContext* ctx, int64_t* num_rows) {
  const tensorflow::Tensor* tensor;
  TF_RETURN_IF_ERROR(ctx->input("num_rows", &tensor));
  TF_RETURN_IF_ERROR(CheckRank("num_rows", *tensor, 0));
  *num_rows = tensor->scalar<int32_t>()();
  if (*num_rows >= 0) return absl::OkStatus();
  return InvalidArgument("num_rows must not be negative, but it is ", *num_rows, ".");
}

// The attr "combiners".
inline absl::Status ReadCombiners(tensorflow::OpKernelConstruction* ctx,
                                  std::vector<Combiner>* combiners) {
  std::vector<std::string> names;
  TF_RETURN_IF_ERROR(ctx->GetAttr("combiners", &names));
  for (const std::string& name : names) {
    combiners->emplace_back();
    if (!ParseCombiner(name, &combiners->back())) {
      return InvalidArgument("combiner '", name, "' must be sum, mean or sqrtn.");
    }
  }
  return absl::OkStatus();
}

}  // namespace tfps

#endif  // OPS_KERNELS_BAGS_H_
