#include <cstdint>

#include "ops/kernels/kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::TensorShapeUtils;

class StringsOp : public Kernel {
 public:
  using Kernel::Kernel;

  absl::Status Run(OpKernelContext* ctx) override {
    const Tensor& data = ctx->input(0);
    const Tensor& offsets = ctx->input(1);
    if (!TensorShapeUtils::IsVector(data.shape()) || !TensorShapeUtils::IsVector(offsets.shape()) ||
        offsets.NumElements() == 0) {
      return InvalidArgument("data must be a vector, and offsets one of at least one number.");
    }
    const char* bytes = reinterpret_cast<const char*>(data.flat<uint8_t>().data());
    const int64_t size = data.NumElements(), n = offsets.NumElements() - 1;
    const int64_t* at = offsets.flat<int64_t>().data();
    Tensor* strings;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({n}), &strings));
    tensorflow::tstring* out = strings->flat<tensorflow::tstring>().data();
    for (int64_t i = 0; i < n; ++i) {
      const int64_t begin = at[i], end = at[i + 1];
      if (begin < 0 || end < begin || end > size) {
        return InvalidArgument("String ", i, " goes from byte ", begin, " to ", end, " of ", size,
                               ".");
      }
      out[i].assign(bytes + begin, end - begin);
    }
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsStrings").Device(tensorflow::DEVICE_CPU), StringsOp);

}  // namespace
}  // namespace tfps
