#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class PushOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    Table& table = resource->table();
    const Tensor& keys = ctx->input(1);
    const Tensor& slots = ctx->input(2);
    const Tensor& show = ctx->input(3);
    const Tensor& click = ctx->input(4);
    const Tensor& gradients = ctx->input(5);
    OP_REQUIRES_OK(ctx, RequireKeys(keys));
    const int64_t n = keys.NumElements();
    OP_REQUIRES_OK(ctx, RequireShape("slots", slots, {n}));
    OP_REQUIRES_OK(ctx, RequireShape("show", show, {n}));
    OP_REQUIRES_OK(ctx, RequireShape("click", click, {n}));
    const int64_t width = gradients.dims() == 2 ? gradients.dim_size(1) : 0;
    OP_REQUIRES_OK(ctx, RequireShape("gradients", gradients, {n, width}));
    OP_REQUIRES_OK(ctx, RequireRowWidth("The width of gradients", width, table));
    const PushBatch batch = {n,
                             static_cast<int>(width),
                             KeysOf(keys),
                             slots.flat<int32_t>().data(),
                             show.flat<float>().data(),
                             click.flat<float>().data(),
                             gradients.flat<float>().data()};
    const auto problem = table.Push(batch, WorkerPool(ctx));
    OP_REQUIRES(ctx, !problem, tensorflow::errors::ResourceExhausted(*problem));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsPush").Device(tensorflow::DEVICE_CPU), PushOp);

}  // namespace
}  // namespace tfps
