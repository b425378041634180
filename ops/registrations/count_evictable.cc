#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsCountEvictable")
    .Input("table: resource")
    .Input("day: int64")
    .Output("slots: int32")
    .Output("rows: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle scalar;
      for (int i = 0; i < 2; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &scalar));
      const auto counts = c->Vector(c->UnknownDim());
      c->set_output(0, counts);
      c->set_output(1, counts);
      return absl::OkStatus();
    })
    .Doc(R"doc(
Counts the feasigns of each slot that would be evicted if a day ended now.

Changes nothing. Shards that have already ended the day count none.

table: of TfpsTable.
day: scalar, the ordinal of the day.
slots: [k], the slots with such feasigns, ascending.
rows: [k], their numbers.
)doc");

}  // namespace tfps
