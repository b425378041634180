#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsPull")
    .Input("table: resource")
    .Input("keys: int64")
    .Output("rows: float")
    .Attr("row_width: int >= 2")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle scalar, keys;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &scalar));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &keys));
      int row_width;
      TF_RETURN_IF_ERROR(c->GetAttr("row_width", &row_width));
      c->set_output(0, c->Matrix(c->Dim(keys, 0), row_width));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Reads the weights of feasigns. Changes nothing.

table: of TfpsTable.
keys: [n], the feasigns as the bits of unsigned numbers.
rows: [n, row_width], lr_w and then mf_w; zeros for a key that is absent, padding (0) or reserved
  (-2^63, -2^63 + 1), and for the mf_w of a feasign that is not admitted.
row_width: from 2 to 1 + the largest mf_dim of any slot. A shorter mf_w is padded with zeros, a
  longer one is cut.
)doc");

}  // namespace tfps
