#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsSave")
    .Input("table: resource")
    .Input("prefix: string")
    .Input("table_name: string")
    .Input("shards: int32")
    .Output("written: int64")
    .Output("load: int64")
    .Attr("only_touched: bool = false")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle shape;
      for (int i = 0; i < 3; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &shape));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(3), 1, &shape));
      c->set_output(0, c->Scalar());
      c->set_output(1, c->Matrix(c->Dim(c->input(3), 0), 3));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Writes virtual shards to a tensor bundle, TensorFlow's own checkpoint format.

Each shard is copied under its lock, as of one moment, and one at a time: the extra memory is that
of the largest. The tensors of shard 12 are
  <table_name>/shard-00012/keys: int64 [n]
  <table_name>/shard-00012/slots: int32 [n]
  <table_name>/shard-00012/statistics: float64 [n, 3], show, click, delta_score
  <table_name>/shard-00012/unseen_days: uint16 [n]
  <table_name>/shard-00012/flags: uint16 [n], 1 for admitted + 2 for served
  <table_name>/shard-00012/floats: float [.], row after row lr_w, lr state and, of an admitted row,
    mf_w, mf state
  <table_name>/shard-00012/finished_day: int64 [], the last day that the shard has finished
  <table_name>/shard-00012/removals: int64 [r], keys that were served when they were evicted
  <table_name>/shard-00012/removal_slots: int32 [r], the slots of their rows
  <table_name>/shard-00012/whole: bool [], whether these are all rows of the shard.
Afterwards no row of these shards counts as touched; if writing fails, all do.

table: of TfpsTable.
prefix: scalar, path of the bundle without its endings .index and .data-00000-of-00001.
table_name: scalar, the prefix of the tensors' names.
shards: [k], numbers of virtual shards, each once.
written: scalar, the number of rows that were written.
load: [k, 3], rows, bytes and pulled keys of each shard.
only_touched: write only the rows that were touched since the shard was last saved; still all rows
  after a day's end, which touches every row, and in the first save.
)doc");

}  // namespace tfps
