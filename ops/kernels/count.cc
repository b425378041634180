#include "ops/core/count.h"

#include "ops/kernels/bags.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;

class CountOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const Tensor &show = ctx->input(2), &click = ctx->input(3);
    OP_REQUIRES_OK(ctx, CheckRank("show", show, 1));
    OP_REQUIRES_OK(ctx, CheckRank("click", click, 1));
    OP_REQUIRES(ctx, show.dim_size(0) == click.dim_size(0),
                InvalidArgument("show and click must have one element per example, but they have ",
                                show.dim_size(0), " and ", click.dim_size(0), "."));
    int64_t num_rows;
    OP_REQUIRES_OK(ctx, ReadNumRows(ctx, &num_rows));
    Bags bags;
    OP_REQUIRES_OK(ctx, ReadBags(ctx, -1, show.dim_size(0), num_rows, &bags));

    Tensor *row_show, *row_click;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({num_rows}), &row_show));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, TensorShape({num_rows}), &row_click));
    Count(bags, show.flat<float>().data(), click.flat<float>().data(), num_rows,
          row_show->flat<float>().data(), row_click->flat<float>().data());
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsCount").Device(tensorflow::DEVICE_CPU), CountOp);

}  // namespace
}  // namespace tfps
