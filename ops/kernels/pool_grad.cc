#include "ops/core/pool.h"
#include "ops/kernels/bags.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;

class PoolGradOp : public tensorflow::OpKernel {
 public:
  explicit PoolGradOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ReadCombiners(ctx, &combiners_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor &lr_grad = ctx->input(0), &mf_grad = ctx->input(1);
    OP_REQUIRES_OK(ctx, CheckRank("lr_grad", lr_grad, 2));
    OP_REQUIRES_OK(ctx, CheckRank("mf_grad", mf_grad, 3));
    const int64_t num_slots = static_cast<int64_t>(combiners_.size());
    OP_REQUIRES(ctx,
                lr_grad.dim_size(1) == num_slots && mf_grad.dim_size(1) == num_slots &&
                    lr_grad.dim_size(0) == mf_grad.dim_size(0),
                InvalidArgument("lr_grad and mf_grad must have the shapes [batch, ", num_slots,
                                "] and [batch, ", num_slots, ", mf_dim], not ",
                                lr_grad.shape().DebugString(), " and ",
                                mf_grad.shape().DebugString(), "."));
    int64_t num_rows;
    OP_REQUIRES_OK(ctx, ReadNumRows(ctx, &num_rows));
    PoolInput input;
    input.combiners = combiners_;
    input.row_width = 1 + mf_grad.dim_size(2);
    OP_REQUIRES_OK(ctx, ReadBags(ctx, num_slots, lr_grad.dim_size(0), num_rows, &input.bags));
    OP_REQUIRES_OK(ctx, ReadWeights(ctx, input.bags, &input.weights));

    Tensor* rows_grad;
    OP_REQUIRES_OK(
        ctx, ctx->allocate_output(0, TensorShape({num_rows, input.row_width}), &rows_grad));
    PoolGrad(input, lr_grad.flat<float>().data(), mf_grad.flat<float>().data(), num_rows,
             rows_grad->flat<float>().data());
  }

 private:
  std::vector<Combiner> combiners_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsPoolGrad").Device(tensorflow::DEVICE_CPU), PoolGradOp);

}  // namespace
}  // namespace tfps
