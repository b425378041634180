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
      return tensorflow::OkStatus();
    })
    .Doc(R"doc(
One message for one server: pushes, and the feasigns wanted of it afterwards.

keys: [n], none to only push.
pushes: Any number of messages of TfpsMakePush, one after the other.
request: What TfpsExchange takes.
)doc");

}  // namespace tfps
