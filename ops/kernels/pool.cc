#include "ops/core/pool.h"

#include "ops/kernels/bags.h"
#include "ops/kernels/kernel.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class PoolOp : public Kernel {
 public:
  explicit PoolOp(OpKernelConstruction* ctx) : Kernel(ctx) {
    OP_REQUIRES_OK(ctx, ReadCombiners(ctx, &combiners_));
  }

  absl::Status Run(OpKernelContext* ctx) override {
    const Tensor& rows = ctx->input(0);
    TF_RETURN_IF_ERROR(CheckRank("rows", rows, 2));
    if (rows.dim_size(1) < 1) {
      return InvalidArgument("rows must have 1 + mf_dim columns, but they have none.");
    }
    PoolInput input;
    input.combiners = combiners_;
    input.row_width = rows.dim_size(1);
    const int64_t num_slots = static_cast<int64_t>(combiners_.size());
    TF_RETURN_IF_ERROR(ReadBags(ctx, num_slots, -1, rows.dim_size(0), &input.bags));
    TF_RETURN_IF_ERROR(ReadWeights(ctx, input.bags, &input.weights));

    const int64_t batch_size = input.bags.batch_size;
    Tensor *lr, *mf;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({batch_size, num_slots}), &lr));
    TF_RETURN_IF_ERROR(
        ctx->allocate_output(1, TensorShape({batch_size, num_slots, input.row_width - 1}), &mf));
    Pool(input, rows.flat<float>().data(), lr->flat<float>().data(), mf->flat<float>().data(),
         WorkerPool(ctx));
    return absl::OkStatus();
  }

 private:
  std::vector<Combiner> combiners_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsPool").Device(tensorflow::DEVICE_CPU), PoolOp);

}  // namespace
}  // namespace tfps
