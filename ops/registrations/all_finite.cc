#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsAllFinite")
    .Input("values: T")
    .Output("finite: bool")
    .Attr("T: list({float, half, bfloat16, double}) >= 0")
    .Attr("squares: bool = false")
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
Whether no value is NaN or infinite.

values: of any shapes.
squares: whether their squares are to be finite, too, but for those of half.
finite: scalar.
)doc");

}  // namespace tfps
