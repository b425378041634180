#include "ops/kernels/table_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

template <typename T>
T* Column(const Tensor& tensor) {
  return const_cast<T*>(tensor.flat<T>().data());
}

class UpsertOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    const Tensor& keys = ctx->input(1);
    OP_REQUIRES_OK(ctx, RequireKeys(keys));
    const int64_t n = keys.NumElements();
    OP_REQUIRES_OK(ctx, RequireShape("slots", ctx->input(2), {n}));
    OP_REQUIRES_OK(ctx, RequireShape("statistics", ctx->input(3), {n, 3}));
    OP_REQUIRES_OK(ctx, RequireShape("unseen_days", ctx->input(4), {n}));
    OP_REQUIRES_OK(ctx, RequireShape("flags", ctx->input(5), {n}));
    const Tensor& floats = ctx->input(6);
    OP_REQUIRES_OK(ctx, RequireShape("floats", floats, {floats.NumElements()}));
    const RowColumns columns = {
        reinterpret_cast<uint64_t*>(Column<int64_t>(keys)), Column<int32_t>(ctx->input(2)),
        Column<double>(ctx->input(3)),  Column<uint16_t>(ctx->input(4)),
        Column<uint16_t>(ctx->input(5)), Column<float>(floats)};
    const auto problem = resource->table().Upsert(columns, {n, floats.NumElements()});
    OP_REQUIRES(ctx, !problem, tensorflow::errors::InvalidArgument(*problem));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsUpsert").Device(tensorflow::DEVICE_CPU), UpsertOp);

}  // namespace
}  // namespace tfps
