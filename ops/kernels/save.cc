#include "ops/kernels/saved_shard.h"
#include "tensorflow/core/util/tensor_bundle/tensor_bundle.h"

namespace tfps {
namespace {

using tensorflow::BundleWriter;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

// Holds one shard in memory at a time, so that the extra memory is that of the largest shard.
class SaveOp : public TableKernel {
 public:
  explicit SaveOp(OpKernelConstruction* ctx) : TableKernel(ctx) {
    bool only_touched;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("only_touched", &only_touched));
    which_ = only_touched ? Rows::kTouched : Rows::kAll;
  }

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    SavedShardsInputs inputs;
    TF_RETURN_IF_ERROR(inputs.Read(ctx, table));
    Tensor *written, *load;
    const int64_t num_shards = inputs.shards->NumElements();
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, {}, &written));
    TF_RETURN_IF_ERROR(ctx->allocate_output(1, {num_shards, 3}, &load));
    written->scalar<int64_t>()() = 0;
    const absl::Status status =
        Guarded(*this, [&] { return Write(ctx, inputs, &table, written, load); });
    // Rows that were read are no longer marked as touched, although no checkpoint holds them.
    if (!status.ok()) {
      for (int64_t i = 0; i < num_shards; ++i) table.TouchAll(inputs[i]);
    }
    return status;
  }

 private:
  absl::Status Write(OpKernelContext* ctx, const SavedShardsInputs& inputs, Table* table,
                     Tensor* written, Tensor* load) {
    BundleWriter writer(ctx->env(), inputs.prefix);
    TF_RETURN_IF_ERROR(writer.status());
    for (int64_t i = 0; i < inputs.shards->NumElements(); ++i) {
      SavedShard saved;
      saved.SetState(table->ReadRows(inputs[i], which_, [&](const RowColumnsSize& size) {
        saved.Allocate(size);
        return saved.columns();
      }));
      const auto problem = table->CheckFinite(
          saved.columns(), {saved.keys.NumElements(), saved.floats.NumElements()});
      if (problem) return DataLoss(*problem);
      written->scalar<int64_t>()() += saved.keys.NumElements();
      const ShardLoad shard_load = table->Load(inputs[i]);
      load->matrix<int64_t>()(i, 0) = shard_load.rows;
      load->matrix<int64_t>()(i, 1) = shard_load.bytes;
      load->matrix<int64_t>()(i, 2) = shard_load.pulled_keys;
      const std::string shard_name = SavedShardName(inputs.name, inputs[i]);
      TF_RETURN_IF_ERROR(saved.ForEach([&](const char* name, Tensor* tensor) {
        return writer.Add(shard_name + name, *tensor);
      }));
    }
    return writer.Finish();
  }

  Rows which_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsSave").Device(tensorflow::DEVICE_CPU), SaveOp);

}  // namespace
}  // namespace tfps
