#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsMemoryShare")
    .Output("share: float64")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
Returns how much of its available memory the process that runs this op holds, as it last reported
with tfps_tell_memory_share().

share: scalar, from 0 to 1; 0 before the first report.
)doc");

}  // namespace tfps
