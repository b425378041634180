#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsClock")
    .Input("table: resource")
    .Output("finished_below: int64")
    .Output("running: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &scalar));
      c->set_output(0, c->Scalar());
      c->set_output(1, c->Matrix(c->UnknownDim(), 2));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Reports which batches of which tickets were applied here.

table: of TfpsTable or TfpsDense.
finished_below: scalar, all tickets with a smaller number are finished; messages of them are
  dropped.
running: [k, 2], for the other tickets, in order: the ticket's number and the number of its batches
  that were applied.
)doc");

}  // namespace tfps
