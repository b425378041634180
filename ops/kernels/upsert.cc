#include "ops/kernels/table_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

template <typename T>
T* Column(const Tensor& tensor) {
  return const_cast<T*>(tensor.flat<T>().data());
}

class UpsertOp : public TableKernel {
 public:
  using TableKernel::TableKernel;

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    const Tensor& keys = ctx->input(1);
    TF_RETURN_IF_ERROR(RequireKeys(keys));
    const int64_t n = keys.NumElements();
    TF_RETURN_IF_ERROR(RequireShape("slots", ctx->input(2), {n}));
    TF_RETURN_IF_ERROR(RequireShape("statistics", ctx->input(3), {n, 3}));
    TF_RETURN_IF_ERROR(RequireShape("unseen_days", ctx->input(4), {n}));
    TF_RETURN_IF_ERROR(RequireShape("flags", ctx->input(5), {n}));
    const Tensor& floats = ctx->input(6);
    TF_RETURN_IF_ERROR(RequireShape("floats", floats, {floats.NumElements()}));
    const RowColumns columns = {reinterpret_cast<uint64_t*>(Column<int64_t>(keys)),
                                Column<int32_t>(ctx->input(2)),
                                Column<double>(ctx->input(3)),
                                Column<uint16_t>(ctx->input(4)),
                                Column<uint16_t>(ctx->input(5)),
                                Column<float>(floats)};
    const auto problem = table.Upsert(columns, {n, floats.NumElements()});
    if (problem) return InvalidArgument(*problem);
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsUpsert").Device(tensorflow::DEVICE_CPU), UpsertOp);

}  // namespace
}  // namespace tfps
