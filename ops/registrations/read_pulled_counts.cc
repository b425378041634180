#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsReadPulledCounts")
    .Input("messages: num_servers * uint8")
    .Output("counts: float")
    .Attr("num_servers: int >= 1")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      for (int i = 0; i < c->num_inputs(); ++i) {
        TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &unused));
      }
      c->set_output(0, c->Matrix(c->UnknownDim(), 2));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Unpacks the shows and clicks that TfpsExchange sent beside rows. InvalidArgument if a message is
damaged or has none.

messages: one from each parameter server.
counts: [U, 2], show and click of each row of TfpsReadPulled, in the same order.
num_servers: the number of parameter servers.
)doc");

}  // namespace tfps
