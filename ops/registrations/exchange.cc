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
    .Attr("accumulate: bool = false")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      for (int i = 0; i < 2; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), i, &unused));
      c->set_output(0, c->Vector(InferenceContext::kUnknownDim));
      return tensorflow::OkStatus();
    })
    .Doc(R"doc(
Applies the pushes of a request, each once, and then pulls the rows it asks for.

table: Handle of a table.
request: What TfpsMakeRequest made.
row_width: Floats of a row.
wire_dtype: In which dtype rows are sent.
references: Whether they are sent with references, by which a push finds them again.
accumulate: Keep what is pushed until TfpsApplyAccumulated.
reply: What TfpsReadPulled and TfpsMakePush take.
)doc");

}  // namespace tfps
