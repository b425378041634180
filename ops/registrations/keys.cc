#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsKeys")
    .Input("table: resource")
    .Input("first_shard: int32")
    .Input("last_shard: int32")
    .Output("keys: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      for (int i = 0; i < 3; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &scalar));
      c->set_output(0, c->Vector(c->UnknownDim()));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Lists the keys of a range of virtual shards, in no particular order.

table: of TfpsTable.
first_shard: scalar.
last_shard: scalar, one past the last; at most num_shards.
keys: [n]
)doc");

}  // namespace tfps
