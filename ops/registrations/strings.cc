#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsStrings")
    .Input("data: uint8")
    .Input("offsets: int64")
    .Output("strings: string")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle data, offsets;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 1, &data));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &offsets));
      tensorflow::shape_inference::DimensionHandle n;
      TF_RETURN_IF_ERROR(c->Subtract(c->Dim(offsets, 0), 1, &n));
      c->set_output(0, c->Vector(n));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Strings as a tensor, of a column as Arrow holds it: all bytes, and where each string begins.

data: (m), the bytes.
offsets: (n + 1), from 0 to m and never smaller than the one before; n + 1 may be 1, not 0.
strings: (n), string i is data[offsets[i]:offsets[i + 1]].
)doc");

}  // namespace tfps
