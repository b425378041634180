#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsEndOfDay")
    .Input("table: resource")
    .Input("day: int64")
    .Output("evicted: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &scalar));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 0, &scalar));
      c->set_output(0, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Ends a day: first evicts the feasigns that are due, then ages the others.

A feasign is evicted if its unseen_days are more than accessor.delete_after_unseen_days or its score
is below accessor.delete_threshold. The others' unseen_days grow by one; their show and click are
multiplied by accessor.decay_rate. Each shard remembers the last day that it has ended and skips
a day that is not later: a day's end that was interrupted can be run again.

table: of TfpsTable.
day: scalar, the ordinal of the day.
evicted: scalar, the number of evicted feasigns.
)doc");

}  // namespace tfps
