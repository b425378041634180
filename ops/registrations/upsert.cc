#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsUpsert")
    .Input("table: resource")
    .Input("keys: int64")
    .Input("slots: int32")
    .Input("statistics: float64")
    .Input("unseen_days: uint16")
    .Input("flags: uint16")
    .Input("floats: float")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle shape;
      for (int i : {1, 2, 4, 5, 6}) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &shape));
      return c->WithRank(c->input(3), 2, &shape);
    })
    .Doc(R"doc(
Inserts whole rows, or overwrites those with the same keys.

Each row is one atomic step. If any row does not fit the table's options it is an error, and no row
is written.

table: of TfpsTable.
keys: [n], none of them padding or reserved.
slots: [n].
statistics: [n, 3], show, click, delta_score.
unseen_days: [n].
flags: [n], 1 for admitted + 2 for served.
floats: row after row lr_w, lr state and, of an admitted row, mf_w, mf state.
)doc");

}  // namespace tfps
