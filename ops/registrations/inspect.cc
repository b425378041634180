#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsInspect")
    .Input("table: resource")
    .Input("keys: int64")
    .Output("found: bool")
    .Output("slot: int32")
    .Output("statistics: float64")
    .Output("unseen_days: int32")
    .Output("admitted: bool")
    .Output("served: bool")
    .Output("floats: float")
    .Attr("row_floats: int >= 2")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle scalar, keys;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &scalar));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &keys));
      int row_floats;
      TF_RETURN_IF_ERROR(c->GetAttr("row_floats", &row_floats));
      for (int i = 0; i < 6; ++i) c->set_output(i, keys);
      c->set_output(2, c->Matrix(c->Dim(keys, 0), 3));
      c->set_output(6, c->Matrix(c->Dim(keys, 0), row_floats));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Returns all that a table holds of some feasigns, for tests and tools.

table: of TfpsTable.
keys: [n]
found: [n], false for an absent key, whose other outputs are zero.
slot: [n], of the push that created the feasign.
statistics: [n, 3], show, click, delta_score.
unseen_days: [n], whole days since the last push.
admitted: [n], whether it owns an mf vector.
served: [n], whether serving holds it.
floats: [n, row_floats], lr_w, lr state, mf_w, mf state of the row's slot, then zeros. The state
  of dim weights is for sgd nothing; adagrad g2sum; std_adagrad g2sum[dim]; adam m[dim], v[dim],
  beta1^t, beta2^t; ftrl z[dim], n[dim].
row_floats: the floats of an admitted row, 1 + lr state + mf_dim + mf state, of the slot with the
  most.
)doc");

}  // namespace tfps
