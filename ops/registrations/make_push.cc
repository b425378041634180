#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfpsMakePush")
    .Input("keys: N * int64")
    .Input("slots: N * int32")
    .Input("pulled: N * uint8")
    .Input("positions: num_lookups * int32")
    .Input("row_splits: num_lookups * int64")
    .Input("gradients: num_lookups * float")
    .Input("frozen: bool")
    .Input("show: float")
    .Input("click: float")
    .Input("scale: float")
    .Input("step: int64")
    .Output("messages: num_servers * uint8")
    .Attr("N: int >= 1")
    .Attr("num_lookups: int >= 1")
    .Attr("num_servers: int >= 1")
    .Attr("readers: list(int) = []")
    .Attr("wire_dtype: {float, bfloat16, half} = DT_FLOAT")
    .SetShapeFn([](InferenceContext* c) {
      std::vector<ShapeHandle> inputs;
      ShapeHandle unused;
      for (const char* name : {"keys", "slots", "pulled", "positions", "row_splits", "frozen",
                               "show", "click", "step"}) {
        TF_RETURN_IF_ERROR(c->input(name, &inputs));
        for (ShapeHandle input : inputs) TF_RETURN_IF_ERROR(c->WithRank(input, 1, &unused));
      }
      TF_RETURN_IF_ERROR(c->input("gradients", &inputs));
      for (ShapeHandle input : inputs) TF_RETURN_IF_ERROR(c->WithRank(input, 2, &unused));
      TF_RETURN_IF_ERROR(c->input("scale", &inputs));
      TF_RETURN_IF_ERROR(c->WithRank(inputs[0], 0, &unused));
      TF_RETURN_IF_ERROR(c->input("step", &inputs));
      DimensionHandle three;
      TF_RETURN_IF_ERROR(c->WithValue(c->Dim(inputs[0], 0), 3, &three));
      for (int i = 0; i < c->num_outputs(); ++i) c->set_output(i, c->Vector(c->UnknownDim()));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Packs what one step pushes to one table: a message for each parameter server.

Sums shows and clicks over the occurrences of each feasign: one that occurs twice in an example
counts twice. Merges the lookups of the table: each feasign has one row, or one for each of its
readers, with the sums of its counts and gradients and with the slot of the first lookup that has it.
A gradient that is narrower than another is padded with zeros.

keys: for each lookup and server, lookup after lookup, the feasigns that were pulled, each once.
slots: the slot of each.
pulled: the replies of TfpsExchange for them, whose versions and references go into the push.
positions: for each lookup [N_l], the row of each id; -1 for padding.
row_splits: for each lookup [S_l * B + 1], bag s * B + b holds slot s of example b.
gradients: for each lookup [U_l, row_width_l], of the loss with respect to the rows of server 0, 1,
  ...
frozen: [num_lookups], whether the lookup adds counts only. A feasign that only such lookups have
  takes no step and is not admitted.
show: [B], the show that an occurrence in each example adds to its feasign; nothing where it is not
  finite.
click: [B], the click that it adds, if both are finite.
scale: the factor of the gradients.
step: [3], the number of the ticket (-1: none, nothing is checked), the number of the batch within
  it, and the number below which all tickets are finished.
messages: one for each parameter server, for TfpsMakeRequest.
readers: for each lookup 0 if its slots read their own rows, otherwise the number of the slot, which
  reads the rows of another one; negative if it does not count: it makes no row, admits none, and its
  shows are those of its gradients only. The step of a row adds the gradients of its readers, each by
  its own scale. With readers, feasigns that are in none of a lookup's bags are none of it, so that
  several lookups may be parts of one pull. Empty: all are 0.
wire_dtype: the dtype that gradients are rounded to, up or down at random so that the mean is the
  gradient itself; the randomness is a function of ticket, batch and position in the message. A
  finite gradient beyond the range of half becomes its largest value; NaN and infinities stay.
)doc");

}  // namespace tfps
