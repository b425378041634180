#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsRestore")
    .Input("table: resource")
    .Input("prefix: string")
    .Input("table_name: string")
    .Input("shards: int32")
    .Input("saved_slots: int32")
    .Input("slots: int32")
    .Output("rows: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle shape;
      for (int i = 0; i < 3; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &shape));
      for (int i = 3; i < 6; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &shape));
      c->set_output(0, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Reads virtual shards from a tensor bundle that TfpsSave wrote, bit for bit.

The rows replace all that the shards held or, if the bundle has only touched rows, overwrite the
rows of their keys. Every tensor is checked against its crc32c. A tensor that is missing, damaged or
does not fit the table's options is an error that names it; its shard then holds what it held
before, or a part of it.

table: of TfpsTable.
prefix: scalar, path of the bundle without its endings .index and .data-00000-of-00001.
table_name: scalar, the prefix of the tensors' names.
shards: [k], numbers of virtual shards, each once.
saved_slots: [m], numbers of slots in the bundle. Other slots keep their numbers.
slots: [m], their numbers in the table.
rows: scalar, the number of rows that were read.
)doc");

}  // namespace tfps
