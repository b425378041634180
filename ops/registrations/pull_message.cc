#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsPullMessage")
    .Input("table: resource")
    .Input("keys: int64")
    .Output("message: uint8")
    .Attr("row_width: int >= 2")
    .Attr("wire_dtype: {float, bfloat16, half} = DT_FLOAT")
    .Attr("references: bool")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &unused));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &unused));
      c->set_output(0, c->Vector(c->UnknownDim()));
      return tensorflow::OkStatus();
    })
    .Doc(R"doc(
Reads the weights of feasigns as TfpsPull does, into one message for TfpsReadPulled and TfpsMakePush.

table: of TfpsTable.
keys: [n], the feasigns, with the bits of the unsigned number.
message: [m] bytes: how many messages were applied to the table so far, the rows and, if asked for,
  their references.
row_width: from 2 to 1 + the largest mf_dim of any slot. A shorter mf_w ends in zeros, a longer one
  is cut.
wire_dtype: what the rows are rounded to, to the nearest. A finite weight beyond the largest of half
  becomes that one.
references: whether the message says where each row is, which saves the push the look-ups.
)doc");

}  // namespace tfps
