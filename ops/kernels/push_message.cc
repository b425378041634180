#include "ops/core/message.h"
#include "ops/kernels/messages.h"
#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::errors::InvalidArgument;

class PushMessageOp : public tensorflow::OpKernel {
 public:
  explicit PushMessageOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("accumulate", &accumulate_));
  }

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    Table& table = resource->table();
    const AlignedBytes bytes(ctx->input(1));
    PushMessage message;
    const std::string damage = ReadPush(bytes.data(), bytes.size(), &message);
    OP_REQUIRES(ctx, damage.empty(), InvalidArgument(damage));
    OP_REQUIRES_OK(ctx, RequireRowWidth("The width of gradients", message.shape.width, table));
    const Step& step = message.shape.step;
    const auto bad_step = CheckStep(step.ticket, step.batch, step.finished_below);
    OP_REQUIRES(ctx, !bad_step, InvalidArgument(*bad_step));
    const auto problem = table.ApplyMessage(message, accumulate_, WorkerPool(ctx));
    OP_REQUIRES(ctx, !problem, tensorflow::errors::ResourceExhausted(*problem));
  }

 private:
  bool accumulate_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsPushMessage").Device(tensorflow::DEVICE_CPU), PushMessageOp);

}  // namespace
}  // namespace tfps
