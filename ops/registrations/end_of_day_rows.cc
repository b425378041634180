#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsEndOfDayRows")
    .Input("table: resource")
    .Input("first_shard: int32")
    .Input("last_shard: int32")
    .Input("day: int64")
    .Input("announced: int64")
    .Output("keys: int64")
    .Output("slots: int32")
    .Output("statistics: float64")
    .Output("unseen_days: int32")
    .Attr("only_announced: bool")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle checked;
      for (int i = 0; i < 5; ++i) {
        TF_RETURN_IF_ERROR(c->WithRank(c->input(i), i == 4 ? 1 : 0, &checked));
      }
      const auto n = c->UnknownDim();
      for (int i = 0; i < 4; ++i) c->set_output(i, c->Vector(n));
      c->set_output(2, c->Matrix(n, 3));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Ends a day in a range of virtual shards, as TfpsEndOfDay does, and returns the evicted feasigns.

table: of TfpsTable.
first_shard: scalar.
last_shard: scalar, one past the last; at most num_shards.
day: scalar, the ordinal of the day.
announced: [m], keys in any order; read only if only_announced is set.
keys: [n], in no particular order.
slots: [n], of the push that created the feasign.
statistics: [n, 3], show, click, delta_score before the eviction.
unseen_days: [n], whole days since the last push.
only_announced: evicts only feasigns that are due and among `announced`, the keys that TfpsEvictable
  returned for this range. A feasign that has become due since was pushed since: it stays and ages.
)doc");

}  // namespace tfps
