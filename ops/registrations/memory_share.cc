#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsMemoryShare")
    .Output("share: float64")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
How much of the memory that it could have the process that runs this op holds, as it has last told
with tfps_tell_memory_share().

share: scalar, from 0 to 1; 0 where it has not told.
)doc");

}  // namespace tfps
