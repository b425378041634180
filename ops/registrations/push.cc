#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsPush")
    .Input("table: resource")
    .Input("keys: int64")
    .Input("slots: int32")
    .Input("show: float")
    .Input("click: float")
    .Input("gradients: float")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle scalar, vector;
      DimensionHandle n = c->UnknownDim();
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 0, &scalar));
      for (int i = 1; i <= 4; ++i) {
        TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &vector));
        TF_RETURN_IF_ERROR(c->Merge(n, c->Dim(vector, 0), &n));
      }
      ShapeHandle gradients;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(5), 2, &gradients));
      return c->Merge(n, c->Dim(gradients, 0), &n);
    })
    .Doc(R"doc(
Applies the counts and gradients of a batch: one atomic step per row, in the order of the rows.

An absent feasign is created. Its counts grow, its lr weight and, if it is admitted, its mf vector
take one step of their optimizers, and it is admitted when its score reaches
accessor.create_threshold; the gradient of that push does not reach the new mf vector. A key that
occurs twice is pushed twice: merge a batch first. Padding (0) is dropped. Reserved keys (-2^63,
-2^63 + 1) and rows whose show or click is not finite are dropped and counted. A row with a NaN or
infinity in its gradient, before or after its division by show, takes no step, but its counts are
added; so does one whose step would leave a weight or a state that is not finite. A push of another slot than the one that created the feasign is applied and counted.
ResourceExhausted if rows found no room; all others are applied.

table: of TfpsTable.
keys: [n], the feasigns as the bits of unsigned numbers.
slots: [n], the slot of each.
show: [n], how often each occurred in the batch.
click: [n], how often it did so in a clicked example.
gradients: [n, row_width], of the summed loss with respect to lr_w and mf_w, where row_width is from
  2 to 1 + the largest mf_dim of any slot. The gradient of a longer mf_w is padded with zeros,
  that of a shorter one is cut.
)doc");

}  // namespace tfps
