#include "ops/core/finite.h"
#include "ops/kernels/kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class AllFiniteOp : public Kernel {
 public:
  using Kernel::Kernel;

  absl::Status Run(OpKernelContext* ctx) override {
    bool finite = true;
    for (int i = 0; i < ctx->num_inputs() && finite; ++i) finite = IsFinite(ctx->input(i));
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
      case tensorflow::DT_DOUBLE: return AllFinite<uint64_t>(values, n, uint64_t{0x7ff} << 52);
      default: return AllFinite<uint32_t>(values, n, 0x7f800000);
    }
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsAllFinite").Device(tensorflow::DEVICE_CPU), AllFiniteOp);

}  // namespace
}  // namespace tfps
