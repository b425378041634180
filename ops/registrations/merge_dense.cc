#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsMergeDense")
    .Input("dense: resource")
    .Input("step: int64")
    .Input("floats: float")
    .Input("integers: int64")
    .Input("decays: float")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      ShapeHandle shape;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &shape));
      TF_RETURN_IF_ERROR(c->Merge(c->input(1), c->Vector(3), &shape));
      for (int i = 2; i < 5; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &shape));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Changes all variables, once for each (ticket, batch): a repeated message or one of a finished ticket
changes nothing.

A float32 variable i becomes decays[i] * variable + its part of floats: exactly the sum for a decay
of 1, exactly the part for a decay of 0, even if the variable holds a NaN or infinity. An int64 or
int32 variable is increased by its part of integers, which wraps around on overflow.
InvalidArgument, with nothing changed, for a wrong size or an impossible step.

dense: of TfpsDense.
step: [3], ticket number, batch number in the ticket, and the number below which all tickets are
  finished. Ticket -1 means none: the message is applied without a check.
floats: [F], as TfpsReadDense packs them.
integers: [I], as TfpsReadDense packs them.
decays: [N], one for each variable; those of integer variables are ignored.
)doc");

}  // namespace tfps
