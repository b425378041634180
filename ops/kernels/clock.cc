#include "ops/kernels/clocked_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class ClockOp : public ClockedKernel {
 public:
  using ClockedKernel::ClockedKernel;

  absl::Status Run(OpKernelContext* ctx, ClockedResource& resource) override {
    const auto finished = resource.clock().finished_below();
    const auto running_tickets = resource.clock().Running();
    const auto k = static_cast<int64_t>(running_tickets.size());
    Tensor *finished_below, *running;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({}), &finished_below));
    TF_RETURN_IF_ERROR(ctx->allocate_output(1, TensorShape({k, 2}), &running));
    finished_below->scalar<int64_t>()() = finished;
    for (int64_t i = 0; i < k; ++i) {
      running->matrix<int64_t>()(i, 0) = running_tickets[i].first;
      running->matrix<int64_t>()(i, 1) = running_tickets[i].second;
    }
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsClock").Device(tensorflow::DEVICE_CPU), ClockOp);

}  // namespace
}  // namespace tfps
