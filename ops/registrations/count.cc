#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsCount")
    .Input("positions: int32")
    .Input("row_splits: int64")
    .Input("show: float")
    .Input("click: float")
    .Input("num_rows: int32")
    .Output("row_show: float")
    .Output("row_click: float")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      for (int i = 0; i < 4; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &unused));
      TF_RETURN_IF_ERROR(c->Merge(c->input(2), c->input(3), &unused));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(4), 0, &unused));
      DimensionHandle num_rows;
      TF_RETURN_IF_ERROR(c->MakeDimForScalarInput(4, &num_rows));
      c->set_output(0, c->Vector(num_rows));
      c->set_output(1, c->Vector(num_rows));
      return tensorflow::OkStatus();
    })
    .Doc(R"doc(
Adds up what the occurrences of each feasign count in a batch.

One that is twice in an example counts twice.

positions: [N], the row of each id; -1 for padding, which does not count.
row_splits: [S * B + 1], bag s * B + b holds slot s of example b.
show: [B], what an occurrence in each example adds to its feasign's show.
click: [B], what it adds to its click.
num_rows: U, the number of rows.
row_show: [U], the sum of show over the occurrences of each row.
row_click: [U], that of click.
)doc");

}  // namespace tfps
