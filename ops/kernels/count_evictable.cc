#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class CountEvictableOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    OP_REQUIRES_OK(ctx, RequireShape("day", ctx->input(1), {}));
    const auto counts =
        resource->table().CountEvictable(ctx->input(1).scalar<int64_t>()(), BackgroundPool(ctx));
    const TensorShape shape({static_cast<int64_t>(counts.size())});
    Tensor *slots, *rows;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, shape, &slots));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, shape, &rows));
    int64_t i = 0;
    for (const auto& [slot, count] : counts) {
      slots->vec<int32_t>()(i) = slot;
      rows->vec<int64_t>()(i++) = count;
    }
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsCountEvictable").Device(tensorflow::DEVICE_CPU),
                        CountEvictableOp);

}  // namespace
}  // namespace tfps
