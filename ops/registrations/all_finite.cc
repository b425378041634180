#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsAllFinite")
    .Input("values: T")
    .Output("finite: bool")
    .Attr("T: list({float, half, bfloat16, double}) >= 0")
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
Whether no value is NaN or infinite.

values: of any shapes.
finite: scalar.
)doc");

}  // namespace tfps
