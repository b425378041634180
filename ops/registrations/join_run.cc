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
Lets the process that runs this op serve a run, the first that asks for it and no other after.

FailedPrecondition if it serves another one: what it holds is that run's.

run: scalar, an id that no other run has.
incarnation: scalar, a random number that is this process's own: another one at the same address has
  another.
)doc");

}  // namespace tfps
