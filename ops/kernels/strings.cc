#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "ops/core/fingerprint.h"
#include "ops/core/hash.h"
#include "ops/kernels/kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShapeUtils;

// A column of texts: distinct ones, and which of them each row has.
class Column {
 public:
  absl::Status Init(OpKernelContext* ctx) {
    const Tensor& data = ctx->input(0);
    const Tensor& offsets = ctx->input(1);
    if (!TensorShapeUtils::IsVector(data.shape()) || !TensorShapeUtils::IsVector(offsets.shape()) ||
        offsets.NumElements() == 0) {
      return InvalidArgument("data must be a vector, and offsets one of at least one number.");
    }
    const Tensor& codes = ctx->input(2);
    rows_ = codes.NumElements();
    codes_ = codes.flat<int32_t>().data();
    bytes_ = reinterpret_cast<const char*>(data.flat<uint8_t>().data());
    offsets_ = offsets.flat<int64_t>().data();
    texts_ = offsets.NumElements() - 1;
    size_ = data.NumElements();
    return absl::OkStatus();
  }

  int64_t rows() const { return rows_; }
  int64_t texts() const { return texts_; }
  int32_t code(int64_t row) const { return codes_[row]; }

  // The text of a row; false if there is none.
  bool Find(int64_t row, absl::string_view* text) const {
    const int32_t code = codes_[row];
    if (code < 0 || code >= texts_) return false;
    const int64_t begin = offsets_[code], end = offsets_[code + 1];
    if (begin < 0 || end < begin || end > size_) return false;
    *text = {bytes_ + begin, static_cast<size_t>(end - begin)};
    return true;
  }

  absl::Status None(int64_t row) const {
    return InvalidArgument("Row ", row, " has text ", codes_[row], " of ", texts_, ", of ", size_,
                           " bytes; that is none of them, or its offsets are wrong.");
  }

 private:
  const char* bytes_;
  const int64_t* offsets_;
  const int32_t* codes_;
  int64_t texts_, rows_, size_;
};

class StringsOp : public Kernel {
 public:
  using Kernel::Kernel;

  absl::Status Run(OpKernelContext* ctx) override {
    Column column;
    TF_RETURN_IF_ERROR(column.Init(ctx));
    Tensor* strings;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, ctx->input(2).shape(), &strings));
    tensorflow::tstring* out = strings->flat<tensorflow::tstring>().data();
    for (int64_t i = 0; i < column.rows(); ++i) {
      absl::string_view text;
      if (!column.Find(i, &text)) return column.None(i);
      out[i].assign(text.data(), text.size());
    }
    return absl::OkStatus();
  }
};

class FeasignsOp : public Kernel {
 public:
  explicit FeasignsOp(OpKernelConstruction* ctx) : Kernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("prefix", &prefix_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("has_padding", &has_padding_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("padding", &padding_));
  }

  absl::Status Run(OpKernelContext* ctx) override {
    Column column;
    TF_RETURN_IF_ERROR(column.Init(ctx));
    Tensor* feasigns;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, ctx->input(2).shape(), &feasigns));
    int64_t* out = feasigns->flat<int64_t>().data();
    std::string buffer = prefix_;
    buffer.resize(std::max<size_t>(buffer.size(), 256));
    // Where texts recur, each is hashed when the first row with it comes.
    const bool recur = column.texts() < column.rows();
    std::vector<int64_t> known(recur ? column.texts() : 0);
    std::vector<bool> is_known(known.size());
    for (int64_t i = 0; i < column.rows(); ++i) {
      absl::string_view text;
      if (!column.Find(i, &text)) return column.None(i);
      const int32_t code = column.code(i);
      if (recur && is_known[code]) {
        out[i] = known[code];
        continue;
      }
      out[i] = Feasign(text, &buffer);
      if (recur) {
        known[code] = out[i];
        is_known[code] = true;
      }
    }
    return absl::OkStatus();
  }

 private:
  // `buffer` begins with the prefix.
  int64_t Feasign(absl::string_view text, std::string* buffer) const {
    if (has_padding_ && text == padding_) return kPadding;
    const size_t size = prefix_.size() + text.size();
    if (buffer->size() < size) buffer->resize(size);
    std::memcpy(&(*buffer)[prefix_.size()], text.data(), text.size());
    const uint64_t key = Fingerprint(buffer->data(), size);
    const bool special = key == kPadding || IsReserved(key);
    return static_cast<int64_t>(special ? key ^ 0x5555555555555555 : key);
  }

  std::string prefix_, padding_;
  bool has_padding_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsStrings").Device(tensorflow::DEVICE_CPU), StringsOp);
REGISTER_KERNEL_BUILDER(Name("TfpsFeasigns").Device(tensorflow::DEVICE_CPU), FeasignsOp);

}  // namespace
}  // namespace tfps
