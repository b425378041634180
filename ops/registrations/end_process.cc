#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsEndProcess")
    .Input("exit_code: int32")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      return c->WithRank(c->input(0), 0, &scalar);
    })
    .Doc(R"doc(
Tells the process that runs this op to end: its main loop reads the exit code from
tfps_end_signal(), which returns -1 before.

exit_code: scalar, from 0 to 255.
)doc");

}  // namespace tfps
