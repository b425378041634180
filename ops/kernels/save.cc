#include "ops/kernels/saved_shard.h"
#include "tensorflow/core/util/tensor_bundle/tensor_bundle.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Status;
using tensorflow::Tensor;

// Holds one shard in memory at a time, so that the extra memory is that of the largest shard.
class SaveOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    SavedShardsInputs inputs;
    OP_REQUIRES_OK(ctx, inputs.Read(ctx));
    tensorflow::BundleWriter writer(ctx->env(), inputs.prefix);
    OP_REQUIRES_OK(ctx, writer.status());
    int64_t rows = 0;
    for (int64_t i = 0; i < inputs.shards->NumElements(); ++i) {
      SavedShard saved;
      saved.finished_day.scalar<int64_t>()() =
          inputs.resource->table().ReadRows(inputs[i], [&](const RowColumnsSize& size) {
            saved.Allocate(size);
            return saved.columns();
          });
      rows += saved.keys.NumElements();
      const std::string shard_name = SavedShardName(inputs.name, inputs[i]);
      OP_REQUIRES_OK(ctx, saved.ForEach([&](const char* name, Tensor* tensor) {
        return writer.Add(shard_name + name, *tensor);
      }));
    }
    OP_REQUIRES_OK(ctx, writer.Finish());
    Tensor* saved_rows;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {}, &saved_rows));
    saved_rows->scalar<int64_t>()() = rows;
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsSave").Device(tensorflow::DEVICE_CPU), SaveOp);

}  // namespace
}  // namespace tfps
