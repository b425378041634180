#include <cmath>

#include "ops/kernels/kernel.h"
#include "ops/kernels/table_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class SetLearningRatesOp : public TableKernel {
 public:
  using TableKernel::TableKernel;

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    const Tensor *rates, *factor;
    TF_RETURN_IF_ERROR(ctx->input("rates", &rates));
    TF_RETURN_IF_ERROR(ctx->input("factor", &factor));
    TF_RETURN_IF_ERROR(RequireShape("factor", *factor, TensorShape()));
    const float number = factor->scalar<float>()();
    if (!std::isfinite(number)) {
      return InvalidArgument("factor must be a finite number, not ", number, ".");
    }
    if (rates->NumElements() > 0) {
      TF_RETURN_IF_ERROR(RequireShape("rates", *rates, TensorShape({table.num_policies(), 2})));
    }
    const float* const values = rates->flat<float>().data();
    for (int64_t i = 0; i < rates->NumElements(); ++i) {
      if (!std::isfinite(values[i]) || values[i] < 0) {
        return InvalidArgument("a learning rate must be 0 or more and finite, not ", values[i],
                               ".");
      }
    }
    table.SetLearningRates(values, rates->NumElements(), number);
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsSetLearningRates").Device(tensorflow::DEVICE_CPU),
                        SetLearningRatesOp);

}  // namespace
}  // namespace tfps
