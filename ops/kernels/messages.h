// Reads attributes and bytes for the kernels of messages.
#ifndef OPS_KERNELS_MESSAGES_H_
#define OPS_KERNELS_MESSAGES_H_

#include <cstring>
#include <string>
#include <vector>

#include "ops/core/message.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {

// The attr "wire_dtype".
inline absl::Status ReadWireDtype(tensorflow::OpKernelConstruction* ctx, WireDtype* dtype) {
  tensorflow::DataType wire_dtype;
  TF_RETURN_IF_ERROR(ctx->GetAttr("wire_dtype", &wire_dtype));
  *dtype = wire_dtype == tensorflow::DT_BFLOAT16 ? WireDtype::kBfloat16
           : wire_dtype == tensorflow::DT_HALF   ? WireDtype::kFloat16
                                                 : WireDtype::kFloat32;
  return absl::OkStatus();
}

inline char* BytesOf(tensorflow::Tensor* message) {
  return reinterpret_cast<char*>(message->flat<uint8_t>().data());
}

// The bytes of a message, aligned to 8. They usually are, and are copied otherwise.
class AlignedBytes {
 public:
  explicit AlignedBytes(const tensorflow::Tensor& message)
      : data_(message.tensor_data().data()), size_(message.NumElements()) {
    if (reinterpret_cast<uintptr_t>(data_) % alignof(int64_t) == 0) return;
    copy_.resize((size_ + 7) / 8);
    std::memcpy(copy_.data(), data_, size_);
    data_ = reinterpret_cast<const char*>(copy_.data());
  }

  const char* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  const char* data_;
  int64_t size_;
  std::vector<int64_t> copy_;
};

}  // namespace tfps

#endif  // OPS_KERNELS_MESSAGES_H_
