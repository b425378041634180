#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsCommitCapture")
    .Input("table: resource")
    .Input("keys: int64")
    .Input("slots: int32")
    .Input("delta_scores: float64")
    .Input("removed: int64")
    .Attr("which: {'base', 'delta'}")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle shape;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &shape));
      for (int i = 1; i < 5; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &shape));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Commits what TfpsCapture copied, once it is durable: subtracts it from delta_score and marks the
rows as served.

After a base no other row is served. Removed keys are no longer pending. A captured row that was
evicted meanwhile becomes a pending removal. Call it only once for each capture.

table: of TfpsTable.
keys, slots, delta_scores, removed: what TfpsCapture returned; slots are its row_slots.
which: as in TfpsCapture.
)doc");

}  // namespace tfps
