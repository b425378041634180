#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsRoute")
    .Input("ids: int64")
    .Input("slot_ends: int64")
    .Input("slot_ids: int32")
    .Input("assignment: int32")
    .Output("keys: num_servers * int64")
    .Output("slots: num_servers * int32")
    .Output("positions: int32")
    .Attr("num_servers: int >= 1")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle ids, vector;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 1, &ids));
      for (int i = 1; i < 4; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &vector));
      TF_RETURN_IF_ERROR(c->Merge(c->input(1), c->input(2), &vector));
      for (int i = 0; i < c->num_outputs() - 1; ++i) c->set_output(i, c->Vector(c->UnknownDim()));
      c->set_output(c->num_outputs() - 1, ids);
      return absl::OkStatus();
    })
    .Doc(R"doc(
Makes the ids of a batch unique and sorts them by the parameter server that holds them.

ids: [N], the feasigns of all slots, slot after slot. 0 is padding.
slot_ends: [S], the end of each slot's ids.
slot_ids: [S], the number of each slot.
assignment: [num_shards], the server of each virtual shard.
keys: for each server its distinct ids except padding and reserved keys, in order of first
  appearance.
slots: for each key the number of the slot that it first appeared in.
positions: [N], the index of each id in the concatenation of keys; -1 for padding and reserved keys.
num_servers: the number of parameter servers.
)doc");

}  // namespace tfps
