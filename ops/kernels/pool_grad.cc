#include "ops/core/pool.h"
#include "ops/kernels/bags.h"
#include "ops/kernels/kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class PoolGradOp : public Kernel {
 public:
  explicit PoolGradOp(OpKernelConstruction* ctx) : Kernel(ctx) {
    OP_REQUIRES_OK(ctx, ReadCombiners(ctx, &combiners_));
  }

  absl::Status Run(OpKernelContext* ctx) override {
    const Tensor &lr_grad = ctx->input(0), &mf_grad = ctx->input(1);
    TF_RETURN_IF_ERROR(CheckRank("lr_grad", lr_grad, 2));
    TF_RETURN_IF_ERROR(CheckRank("mf_grad", mf_grad, 3));
    const int64_t num_slots = static_cast<int64_t>(combiners_.size());
    if (!(lr_grad.dim_size(1) == num_slots && mf_grad.dim_size(1) == num_slots &&
          lr_grad.dim_size(0) == mf_grad.dim_size(0))) {
      return InvalidArgument("lr_grad and mf_grad must have the shapes [batch, ", num_slots,
                             "] and [batch, ", num_slots, ", mf_dim], not ",
                             lr_grad.shape().DebugString(), " and ", mf_grad.shape().DebugString(),
                             ".");
    }
    int64_t num_rows;
    TF_RETURN_IF_ERROR(ReadNumRows(ctx, &num_rows));
    PoolInput input;
    input.combiners = combiners_;
    input.row_width = 1 + mf_grad.dim_size(2);
    TF_RETURN_IF_ERROR(ReadBags(ctx, num_slots, lr_grad.dim_size(0), num_rows, &input.bags));
    TF_RETURN_IF_ERROR(ReadWeights(ctx, input.bags, &input.weights));

    Tensor* rows_grad;
    TF_RETURN_IF_ERROR(
        ctx->allocate_output(0, TensorShape({num_rows, input.row_width}), &rows_grad));
    PoolGrad(input, lr_grad.flat<float>().data(), mf_grad.flat<float>().data(), num_rows,
             rows_grad->flat<float>().data());
    return absl::OkStatus();
  }

 private:
  std::vector<Combiner> combiners_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsPoolGrad").Device(tensorflow::DEVICE_CPU), PoolGradOp);

}  // namespace
}  // namespace tfps
