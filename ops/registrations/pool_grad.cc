#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsPoolGrad")
    .Input("lr_grad: float")
    .Input("mf_grad: float")
    .Input("positions: int32")
    .Input("row_splits: int64")
    .Input("weights: float")
    .Input("num_rows: int32")
    .Output("rows_grad: float")
    .Attr("combiners: list({'sum', 'mean', 'sqrtn'}) >= 1")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle mf_grad, unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &unused));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 3, &mf_grad));
      for (int i = 2; i < 5; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &unused));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(5), 0, &unused));
      DimensionHandle num_rows, row_width;
      TF_RETURN_IF_ERROR(c->MakeDimForScalarInput(5, &num_rows));
      TF_RETURN_IF_ERROR(c->Add(c->Dim(mf_grad, 2), 1, &row_width));
      c->set_output(0, c->Matrix(num_rows, row_width));
      return absl::OkStatus();
    })
    .Doc(R"doc(
The gradient of TfpsPool with respect to its rows.

lr_grad: [B, S], the gradient of lr.
mf_grad: [B, S, W - 1], the gradient of mf.
positions: [N], as in TfpsPool.
row_splits: [S * B + 1], as in TfpsPool.
weights: [N] or [0], as in TfpsPool.
num_rows: U, the number of rows.
rows_grad: [U, W]
combiners: as in TfpsPool.
)doc");

}  // namespace tfps
