#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsChecksum")
    .Input("path: string")
    .Output("size: int64")
    .Output("crc32c: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &scalar));
      c->set_output(0, c->Scalar());
      c->set_output(1, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Size and checksum of a file, which is read where the op runs, a block at a time.

path: scalar, of any of TensorFlow's file systems.
size: scalar, in bytes.
crc32c: scalar, the CRC-32C (Castagnoli) of the whole file, from 0 to 2^32 - 1.
)doc");

}  // namespace tfps
