#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsCapture")
    .Input("table: resource")
    .Input("slots: int32")
    .Output("keys: int64")
    .Output("row_slots: int32")
    .Output("rows: float")
    .Output("delta_scores: float64")
    .Output("removed: int64")
    .Output("removed_slots: int32")
    .Attr("which: {'base', 'delta'}")
    .Attr("counts: bool = false")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle shape;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &shape));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &shape));
      const auto n = c->UnknownDim(), r = c->UnknownDim();
      c->set_output(0, c->Vector(n));
      c->set_output(1, c->Vector(n));
      c->set_output(2, c->Matrix(n, c->UnknownDim()));
      c->set_output(3, c->Vector(n));
      c->set_output(4, c->Vector(r));
      c->set_output(5, c->Vector(r));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Copies the rows that an export of this moment holds; changes nothing.

FailedPrecondition if the table is pushed to meanwhile. Once the export is durable, pass these
outputs to TfpsCommitCapture.

table: of TfpsTable.
slots: [s], the numbers of the slots whose rows are wanted; of all slots if it is empty.
keys: [n].
row_slots: [n], the slot that created each row.
rows: [n, 1 + the largest mf_dim], lr_w and mf_w; zeros beyond the row's own mf, or without one.
delta_scores: [n], the delta_score of each row.
removed: [r], keys that serving is to drop: served rows that were evicted and, in a delta, served
  rows that a base would not hold. A base has those of all slots.
removed_slots: [r], the slot of each; -1 where an old checkpoint did not hold it.
counts: whether each row has two more floats, its show and click.
which: a base holds all that serving needs; a delta holds what has changed enough since the last
  export.
)doc");

}  // namespace tfps
