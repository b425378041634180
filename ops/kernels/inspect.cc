#include "ops/kernels/table_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class InspectOp : public TableKernel {
 public:
  explicit InspectOp(OpKernelConstruction* ctx) : TableKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("row_floats", &row_floats_));
  }

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    const Tensor& keys = ctx->input(1);
    TF_RETURN_IF_ERROR(RequireKeys(keys));
    TF_RETURN_IF_ERROR(RequireWidth("row_floats", row_floats_,
                                    "lr_w, lr state, mf_w and mf state of the slot with most",
                                    table.row_floats()));
    const int64_t n = keys.NumElements();
    Tensor *found, *slot, *statistics, *unseen_days, *admitted, *served, *floats;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, {n}, &found));
    TF_RETURN_IF_ERROR(ctx->allocate_output(1, {n}, &slot));
    TF_RETURN_IF_ERROR(ctx->allocate_output(2, {n, 3}, &statistics));
    TF_RETURN_IF_ERROR(ctx->allocate_output(3, {n}, &unseen_days));
    TF_RETURN_IF_ERROR(ctx->allocate_output(4, {n}, &admitted));
    TF_RETURN_IF_ERROR(ctx->allocate_output(5, {n}, &served));
    TF_RETURN_IF_ERROR(ctx->allocate_output(6, {n, row_floats_}, &floats));
    table.Inspect(
        KeysOf(keys), n,
        {found->flat<bool>().data(), slot->flat<int32_t>().data(),
         statistics->flat<double>().data(), unseen_days->flat<int32_t>().data(),
         admitted->flat<bool>().data(), served->flat<bool>().data(), floats->flat<float>().data()});
    return absl::OkStatus();
  }

 private:
  int row_floats_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsInspect").Device(tensorflow::DEVICE_CPU), InspectOp);

}  // namespace
}  // namespace tfps
