#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsPushMessage")
    .Input("table: resource")
    .Input("message: uint8")
    .Attr("accumulate: bool = false")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &unused));
      return c->WithRank(c->input(1), 1, &unused);
    })
    .Doc(R"doc(
Applies a message of TfpsMakePush as TfpsPush applies a batch; each (ticket, batch) once.

A message whose ticket and batch the table's clock has seen, or whose ticket is finished, is dropped
and counted. InvalidArgument, and nothing applied, if the message is damaged or not of this table's
width. ResourceExhausted if rows found no room; all others are applied.

table: of TfpsTable.
message: [m] bytes.
accumulate: keeps the message for the next TfpsApplyAccumulated.
)doc");

}  // namespace tfps
