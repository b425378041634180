#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class PushOp : public TableKernel {
 public:
  using TableKernel::TableKernel;

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    const Tensor& keys = ctx->input(1);
    const Tensor& slots = ctx->input(2);
    const Tensor& show = ctx->input(3);
    const Tensor& click = ctx->input(4);
    const Tensor& gradients = ctx->input(5);
    TF_RETURN_IF_ERROR(RequireKeys(keys));
    const int64_t n = keys.NumElements();
    TF_RETURN_IF_ERROR(RequireShape("slots", slots, {n}));
    TF_RETURN_IF_ERROR(RequireShape("show", show, {n}));
    TF_RETURN_IF_ERROR(RequireShape("click", click, {n}));
    const int64_t width = gradients.dims() == 2 ? gradients.dim_size(1) : 0;
    TF_RETURN_IF_ERROR(RequireShape("gradients", gradients, {n, width}));
    TF_RETURN_IF_ERROR(RequireRowWidth("The width of gradients", width, table));
    const PushBatch batch = {n,
                             static_cast<int>(width),
                             KeysOf(keys),
                             slots.flat<int32_t>().data(),
                             show.flat<float>().data(),
                             click.flat<float>().data(),
                             gradients.flat<float>().data()};
    const auto problem = table.Push(batch, WorkerPool(ctx));
    if (problem) return ResourceExhausted(*problem);
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsPush").Device(tensorflow::DEVICE_CPU), PushOp);

}  // namespace
}  // namespace tfps
