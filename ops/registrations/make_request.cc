#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsMakeRequest")
    .Input("keys: int64")
    .Input("pushes: uint8")
    .Output("request: uint8")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      for (int i = 0; i < 2; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &unused));
      c->set_output(0, c->Vector(InferenceContext::kUnknownDim));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Makes one message for one server: pushes, and the feasigns to pull after them.

keys: [n], the feasigns as the bits of unsigned numbers; none to only push.
pushes: [m] bytes, any number of messages of TfpsMakePush, one after the other; none to only pull.
request: [16 + 8 n + m] bytes for TfpsExchange.
)doc");

}  // namespace tfps
