#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsPullCounts")
    .Input("table: resource")
    .Input("keys: int64")
    .Output("counts: float")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle scalar, keys;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &scalar));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &keys));
      c->set_output(0, c->Matrix(c->Dim(keys, 0), 2));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Reads the shows and clicks of feasigns. Changes nothing.

table: of TfpsTable.
keys: [n], the feasigns as the bits of unsigned numbers.
counts: [n, 2], show and click, rounded to float32; zeros for a key that is absent, padding (0) or
  reserved (-2^63, -2^63 + 1).
)doc");

}  // namespace tfps
