#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsApplyAccumulated")
    .Input("table: resource")
    .Output("rows: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &scalar));
      c->set_output(0, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Pushes all messages that were accumulated as one batch, so that each feasign takes one step.

Shows and clicks of a feasign add up in double, its gradients in float, in the order of (ticket,
batch), in whatever order they arrived; its slot is that of the first. Gradients of different
row_widths are summed in the widest. Does nothing if nothing was accumulated. ResourceExhausted if
rows found no room; all others are applied.

table: of TfpsTable.
rows: scalar, the number of distinct feasigns.
)doc");

}  // namespace tfps
