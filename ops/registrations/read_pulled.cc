#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsReadPulled")
    .Input("messages: num_servers * uint8")
    .Output("rows: float")
    .Attr("num_servers: int >= 1")
    .Attr("row_width: int >= 2")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle unused;
      for (int i = 0; i < c->num_inputs(); ++i) {
        TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &unused));
      }
      int row_width;
      TF_RETURN_IF_ERROR(c->GetAttr("row_width", &row_width));
      c->set_output(0, c->Matrix(c->UnknownDim(), row_width));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Unpacks the rows that TfpsExchange sent. InvalidArgument if a message is damaged.

messages: one from each parameter server.
rows: [U, row_width], the rows of the first message, then those of the second, and so on.
num_servers: the number of parameter servers.
row_width: as in the pull.
)doc");

}  // namespace tfps
