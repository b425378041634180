#include "ops/core/finite.h"
#include "ops/kernels/kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class AllFiniteOp : public Kernel {
 public:
  explicit AllFiniteOp(OpKernelConstruction* ctx) : Kernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("squares", &squares_));
  }

  absl::Status Run(OpKernelContext* ctx) override {
    bool finite = true;
    for (int i = 0; i < ctx->num_inputs() && finite; ++i) {
      finite = squares_ ? HasFiniteSquares(ctx->input(i)) : IsFinite(ctx->input(i));
    }
    Tensor* out;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, {}, &out));
    out->scalar<bool>()() = finite;
    return absl::OkStatus();
  }

 private:
  static bool IsFinite(const Tensor& tensor) {
    const void* const values = tensor.tensor_data().data();
    const int64_t n = tensor.NumElements();
    switch (tensor.dtype()) {
      case tensorflow::DT_HALF: return AllFinite<uint16_t>(values, n, 0x7c00);
      case tensorflow::DT_BFLOAT16: return AllFinite<uint16_t>(values, n, 0x7f80);
      case tensorflow::DT_DOUBLE: return AllFinite<uint64_t>(values, n, kDoubleExponent);
      default: return AllFinite<uint32_t>(values, n, 0x7f800000);
    }
  }

  // The square of 2^64 is not finite, nor that of 2^512 in double. In half it would be that of 256.
  static bool HasFiniteSquares(const Tensor& tensor) {
    const void* const values = tensor.tensor_data().data();
    const int64_t n = tensor.NumElements();
    switch (tensor.dtype()) {
      case tensorflow::DT_BFLOAT16: return AllBelow<uint16_t>(values, n, 0x7f80, (127 + 64) << 7);
      case tensorflow::DT_DOUBLE:
        return AllBelow<uint64_t>(values, n, kDoubleExponent, uint64_t{1023 + 512} << 52);
      case tensorflow::DT_FLOAT:
        return AllBelow<uint32_t>(values, n, 0x7f800000, uint32_t{127 + 64} << 23);
      default: return IsFinite(tensor);
    }
  }

  static constexpr uint64_t kDoubleExponent = uint64_t{0x7ff} << 52;

  bool squares_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsAllFinite").Device(tensorflow::DEVICE_CPU), AllFiniteOp);

}  // namespace
}  // namespace tfps
