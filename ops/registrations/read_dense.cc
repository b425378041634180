#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsReadDense")
    .Input("dense: resource")
    .Output("floats: float")
    .Output("integers: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &scalar));
      c->set_output(0, c->Vector(c->UnknownDim()));
      c->set_output(1, c->Vector(c->UnknownDim()));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Copies the values of all variables, each flattened, in their order. It never sees a part of a merge.

dense: of TfpsDense.
floats: [F], of the float32 variables.
integers: [I], of the int64 and int32 variables.
)doc");

}  // namespace tfps
