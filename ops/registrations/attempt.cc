#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsAttempt")
    .Input("inputs: Tin")
    .Output("ok: bool")
    .Output("message: string")
    .Output("outputs: Tout")
    .Attr("Tin: list(type) >= 0")
    .Attr("Tout: list(type) >= 0")
    .Attr("f: func")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      c->set_output(0, c->Scalar());
      c->set_output(1, c->Scalar());
      for (int i = 2; i < c->num_outputs(); ++i) c->set_output(i, c->UnknownShape());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Runs a function and returns its error as a result.

inputs: of the function.
ok: scalar, whether the function ended without an error.
message: scalar, the error's message; empty without one.
outputs: of the function; empty tensors if it failed.
f: the function.
)doc");

}  // namespace tfps
