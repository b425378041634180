#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsEvictable")
    .Input("table: resource")
    .Input("first_shard: int32")
    .Input("last_shard: int32")
    .Input("day: int64")
    .Output("keys: int64")
    .Output("slots: int32")
    .Output("statistics: float64")
    .Output("unseen_days: int32")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      for (int i = 0; i < 4; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &scalar));
      const auto n = c->UnknownDim();
      for (int i = 0; i < 4; ++i) c->set_output(i, c->Vector(n));
      c->set_output(2, c->Matrix(n, 3));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Lists the feasigns of a range of virtual shards that would be evicted if a day ended now.

Changes nothing. A shard that has already ended the day lists none.

table: of TfpsTable.
first_shard: scalar.
last_shard: scalar, one past the last; at most num_shards.
day: scalar, the ordinal of the day.
keys: [n], in no particular order.
slots: [n], of the push that created the feasign.
statistics: [n, 3], show, click, delta_score.
unseen_days: [n], whole days since the last push.
)doc");

}  // namespace tfps
