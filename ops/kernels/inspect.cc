#include "ops/kernels/table_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class InspectOp : public OpKernel {
 public:
  explicit InspectOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("row_floats", &row_floats_));
  }

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    const Table& table = resource->table();
    const Tensor& keys = ctx->input(1);
    OP_REQUIRES_OK(ctx, RequireKeys(keys));
    OP_REQUIRES_OK(ctx, RequireWidth("row_floats", row_floats_,
                                     "lr_w, lr state, mf_w and mf state of the slot with most",
                                     table.row_floats()));
    const int64_t n = keys.NumElements();
    Tensor *found, *slot, *statistics, *unseen_days, *admitted, *served, *floats;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {n}, &found));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, {n}, &slot));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(2, {n, 3}, &statistics));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(3, {n}, &unseen_days));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(4, {n}, &admitted));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(5, {n}, &served));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(6, {n, row_floats_}, &floats));
    table.Inspect(
        KeysOf(keys), n,
        {found->flat<bool>().data(), slot->flat<int32_t>().data(),
         statistics->flat<double>().data(), unseen_days->flat<int32_t>().data(),
         admitted->flat<bool>().data(), served->flat<bool>().data(), floats->flat<float>().data()});
  }

 private:
  int row_floats_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsInspect").Device(tensorflow::DEVICE_CPU), InspectOp);

}  // namespace
}  // namespace tfps
