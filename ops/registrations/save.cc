#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsSave")
    .Input("table: resource")
    .Input("prefix: string")
    .Input("table_name: string")
    .Input("shards: int32")
    .Output("rows: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle shape;
      for (int i = 0; i < 3; ++i) TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &shape));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(3), 1, &shape));
      c->set_output(0, c->Scalar());
      return tensorflow::OkStatus();
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
  <table_name>/shard-00012/finished_day: int64 [], the last day that the shard has finished.

table: of TfpsTable.
prefix: scalar, path of the bundle without its endings .index and .data-00000-of-00001.
table_name: scalar, what the names of the tensors begin with.
shards: [k], numbers of virtual shards, each once.
rows: scalar, how many rows were written.
)doc");

}  // namespace tfps
