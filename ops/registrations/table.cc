#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

REGISTER_OP("TfpsTable")
    .Output("table: resource")
    .Attr("container: string = ''")
    .Attr("shared_name: string = ''")
    .Attr("options: string = ''")
    .Attr("engine: {'native', 'tfra'} = 'native'")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
A feasign table on this device: the one of this name, or a new one.

table: its handle, for the other ops.
container: as for any TensorFlow resource.
shared_name: the table's name; the node's name if empty, which in eager mode is not unique.
options: name=value pairs, separated by ;. Options that are not named keep their defaults. An
  unknown name, a bad value, or a text that differs from that of the existing table of this name is
  an InvalidArgument error. The names:
    mf_dim (8), num_shards (1024), seed (0), mf_init_range (1e-4), gradient_scale (per_show: a step
    uses the gradient divided by show; or sum);
    accessor.nonclk_coeff (0.1), accessor.clk_coeff (1), accessor.create_threshold (10),
    accessor.base_update_threshold (1.5), accessor.delta_update_threshold (0.25),
    accessor.delta_keep_days (16), accessor.delete_threshold (0.8),
    accessor.delete_after_unseen_days (30), accessor.decay_rate (0.98);
    and with the prefix lr. for the lr weights and mf. for the mf vectors: optimizer (adagrad; or
    sgd, std_adagrad, adam, ftrl), learning_rate (0.05, for adam 0.001), initial_g2sum (3), beta1
    (0.9), beta2 (0.999), epsilon (1e-8), alpha (0.05), beta (1), l1 (0), l2 (0: added to a gradient
    times the weights, and in ftrl its own), clipnorm (0: none), clipvalue (0: none), weight_min
    (-10), weight_max (10);
    and with the prefix slot.NUMBER. for the rows that this slot created: mf_dim, accessor.*, lr.*
    and mf.*; options that are not named are the table's. A learning rate that neither was
    given is the default of the slot's optimizer.
engine: what keeps the rows: tfps itself (native), or the tables of TensorFlow Recommenders Addons
  (tfra), which is a FailedPrecondition error if it is not installed.
)doc");

}  // namespace tfps
