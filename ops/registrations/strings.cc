#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tfps {
namespace {

absl::Status ShapeOfCodes(tensorflow::shape_inference::InferenceContext* c) {
  tensorflow::shape_inference::ShapeHandle vector;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 1, &vector));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &vector));
  c->set_output(0, c->input(2));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("TfpsStrings")
    .Input("data: uint8")
    .Input("offsets: int64")
    .Input("codes: int32")
    .Output("strings: string")
    .SetShapeFn(ShapeOfCodes)
    .Doc(R"doc(
Strings as a tensor, of a column as Arrow holds it: all bytes, where each string begins, and which
string each row has.

data: (m), the bytes.
offsets: (k + 1), from 0 to m and never smaller than the one before; k + 1 may be 1, not 0. Text i is
  data[offsets[i]:offsets[i + 1]].
codes: of any shape, the number of a text.
strings: of the shape of codes, the texts.
)doc");

REGISTER_OP("TfpsFeasigns")
    .Input("data: uint8")
    .Input("offsets: int64")
    .Input("codes: int32")
    .Output("feasigns: int64")
    .Attr("prefix: string")
    .Attr("has_padding: bool = false")
    .Attr("padding: string = ''")
    .SetShapeFn(ShapeOfCodes)
    .Doc(R"doc(
What tfps.feasign makes of the strings of TfpsStrings, without making these.

data, offsets, codes: as of TfpsStrings.
feasigns: of the shape of codes. Farmhash64's fingerprint of prefix and text; where that is 0 or a
  reserved key, XOR 0x5555555555555555; 0 where the text is the padding, if there is one.
prefix: the slot's name and a separator.
has_padding: whether there is a padding.
padding: the text that stands for nothing.
)doc");

}  // namespace tfps
