#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsExchange")
    .Input("table: resource")
    .Input("request: uint8")
    .Output("reply: uint8")
    .Attr("row_width: int >= 2")
    .Attr("wire_dtype: {float, bfloat16, half} = DT_FLOAT")
    .Attr("references: bool = true")
    .Attr("counts: bool = false")
    .Attr("accumulate: bool = false")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      for (int i = 0; i < 2; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), i, &unused));
      c->set_output(0, c->Vector(InferenceContext::kUnknownDim));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Applies the pushes of a request, each (ticket, batch) once, and then pulls the rows that it asks
for.

A push is applied as TfpsPush applies a batch. One whose ticket and batch the table's clock has
seen, or whose ticket is finished, is dropped and counted. The pull reads the same as
TfpsPull, after the pushes of the same request.

InvalidArgument, and nothing applied, if the request does not hold the keys and pushes that it
names. Pushes are applied in order: InvalidArgument at the first that is damaged or has a width that
this table does not have, ResourceExhausted at the first of which some rows found no room (its other
rows are applied). Pushes before it stay applied, those after it are not applied, and nothing is
pulled.

table: of TfpsTable.
request: [m] bytes of TfpsMakeRequest.
reply: [k] bytes for TfpsReadPulled and TfpsMakePush: the number of messages applied to the table so
  far, the rows and, if asked for, their references.
row_width: of the rows pulled, from 2 to 1 + the largest mf_dim of any slot. A shorter mf_w ends in
  zeros, a longer one is cut.
wire_dtype: the dtype that rows are rounded to, to the nearest. A finite weight beyond the range of
  half becomes its largest value.
references: whether the reply has a reference to each row, which saves the push the look-ups.
counts: whether the reply has the show and click of each row for TfpsReadPulledCounts, as float32,
  whatever the wire_dtype.
accumulate: keeps the pushes for the next TfpsApplyAccumulated.
)doc");

}  // namespace tfps
