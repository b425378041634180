#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsJoinRun")
    .Input("run: string")
    .Output("incarnation: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &scalar));
      c->set_output(0, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Makes the process that runs this op serve a run: the first one that asks, and no other.

FailedPrecondition if it serves another run, to which its state belongs.

run: scalar, an id that no other run has.
incarnation: scalar, a random number of this process; a later process at the same address has
  another.
)doc");

}  // namespace tfps
