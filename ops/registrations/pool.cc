#include <string>
#include <vector>

#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsPool")
    .Input("rows: float")
    .Input("positions: int32")
    .Input("row_splits: int64")
    .Input("weights: float")
    .Output("lr: float")
    .Output("mf: float")
    .Attr("combiners: list({'sum', 'mean', 'sqrtn'}) >= 1")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle rows, row_splits, vector;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &rows));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &vector));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 1, &row_splits));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(3), 1, &vector));
      std::vector<std::string> combiners;
      TF_RETURN_IF_ERROR(c->GetAttr("combiners", &combiners));
      DimensionHandle mf_dim, num_bags, batch_size;
      TF_RETURN_IF_ERROR(c->Subtract(c->Dim(rows, 1), 1, &mf_dim));
      TF_RETURN_IF_ERROR(c->Subtract(c->Dim(row_splits, 0), 1, &num_bags));
      TF_RETURN_IF_ERROR(c->Divide(num_bags, static_cast<int64_t>(combiners.size()),
                                   /*evenly_divisible=*/true, &batch_size));
      c->set_output(0, c->MakeShape({batch_size, c->MakeDim(combiners.size())}));
      c->set_output(1, c->MakeShape({batch_size, c->MakeDim(combiners.size()), mf_dim}));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Pools the pulled rows of each bag: slot s of example b is bag s * B + b.

rows: [U, W], lr weight and mf vector of each distinct feasign.
positions: [N], the row of each id; -1 for padding, which adds nothing.
row_splits: [S * B + 1], bag i holds positions[row_splits[i] : row_splits[i + 1]].
weights: [N], or [0] if every weight is 1. They have no gradient.
lr: [B, S], the pooled lr weights.
mf: [B, S, W - 1], the pooled mf vectors; zeros for an empty bag.
combiners: for each slot sum (of weight times row), mean (that over the sum of the weights) or
  sqrtn (that over the root of the sum of their squares).
)doc");

}  // namespace tfps
