#include "ops/kernels/clocked_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class ClockOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    ClockedPtr resource;
    OP_REQUIRES_OK(ctx, FindClocked(ctx, &resource));
    const auto finished = resource->clock().finished_below();
    const auto running_tickets = resource->clock().Running();
    const auto k = static_cast<int64_t>(running_tickets.size());
    Tensor *finished_below, *running;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({}), &finished_below));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, TensorShape({k, 2}), &running));
    finished_below->scalar<int64_t>()() = finished;
    for (int64_t i = 0; i < k; ++i) {
      running->matrix<int64_t>()(i, 0) = running_tickets[i].first;
      running->matrix<int64_t>()(i, 1) = running_tickets[i].second;
    }
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsClock").Device(tensorflow::DEVICE_CPU), ClockOp);

}  // namespace
}  // namespace tfps
