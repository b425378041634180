#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsStatistics")
    .Input("table: resource")
    .Output("names: string")
    .Output("values: float64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &scalar));
      const auto names = c->Vector(c->UnknownDim());
      c->set_output(0, names);
      c->set_output(1, names);
      return absl::OkStatus();
    })
    .Doc(R"doc(
Returns the numbers that describe a table.

table: of TfpsTable.
names: [k], rows, admitted, bytes (that rows and indexes have reserved), show and click (totals over
  the rows), reserved_pushes, slot_conflicts, nonfinite_gradients, nonfinite_counts and odd_clicks
  (rows pushed), pulled_keys (looked up), pushed_keys (applied) and evicted (at ends of days).
values: [k]
)doc");

}  // namespace tfps
