#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsSetClock")
    .Input("table: resource")
    .Input("finished_below: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      for (int i = 0; i < 2; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &scalar));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Sets the clock of a restored state: tickets below a number are finished, and no batch of any other
was applied.

Drops what a table has accumulated. Call it while no ticket is running: the batches of a running
ticket could be applied twice.

table: of TfpsTable or TfpsDense.
finished_below: scalar, 0 or more; it may be less than before.
)doc");

}  // namespace tfps
