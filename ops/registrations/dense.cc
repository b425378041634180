#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsDense")
    .Input("variables: N * resource")
    .Output("dense: resource")
    .Attr("N: int >= 1")
    .Attr("container: string = ''")
    .Attr("shared_name: string = ''")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      for (int i = 0; i < c->num_inputs(); ++i) {
        TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &scalar));
      }
      c->set_output(0, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
The dense weights of this device: tf.Variables that TfpsReadDense reads and TfpsMergeDense changes
together, with their own clock.

variables: handles of resource variables on this device, float32, int64 or int32, initialized, each
  once. They live at least as long as `dense`; their sizes must not change. InvalidArgument for
  another dtype, FailedPrecondition for one that is not initialized.
dense: its handle, for the other ops.
container: as for any TensorFlow resource.
shared_name: the name; the node's name if empty, which in eager mode is not unique. InvalidArgument
  if there are dense weights of this name that hold other variables.
)doc");

}  // namespace tfps
