#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsSetLearningRates")
    .Input("table: resource")
    .Input("rates: float")
    .Input("factor: float")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle handle;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &handle));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 0, &handle));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Sets the learning rates of a table's optimizers, for steps from now on.

Ftrl keeps its alpha. A table that is made anew begins with those of its options, and factor 1.

table: of TfpsTable.
rates: [P, 2], of the lr weights and of the mf vectors: the table's own, then those of the slots with
  policies, by their numbers; or [0, 2], which leaves them as they are.
factor: what all of them are multiplied by; a negative number leaves it as it is.
)doc");

}  // namespace tfps
