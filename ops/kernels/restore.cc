#include <atomic>
#include <mutex>
#include <string>
#include <unordered_map>

#include "ops/kernels/bundle_index.h"
#include "ops/kernels/saved_shard.h"
#include "ops/kernels/worker_pool.h"
#include "tensorflow/core/util/tensor_bundle/tensor_bundle.h"

namespace tfps {
namespace {

using tensorflow::BundleReader;
using tensorflow::DataType;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// The cycles of one shard: so many that the pool gives every thread a part.
constexpr int64_t kShardCycles = 1'000'000;

// Reads one tensor of the dtype that `tensor` has. The bundle checks its crc32c.
absl::Status ReadTensor(BundleReader* reader, const std::string& prefix, const std::string& name,
                        Tensor* tensor) {
  if (!reader->Contains(name)) {
    return NotFound(prefix, " holds no tensor '", name, "'.");
  }
  DataType dtype;
  TensorShape shape;
  absl::Status status = reader->LookupDtypeAndShape(name, &dtype, &shape);
  if (status.ok() && (dtype != tensor->dtype() || shape.dims() != tensor->dims())) {
    return DataLoss("The tensor '", name, "' in ", prefix, " is ",
                    tensorflow::DataTypeString(dtype), " ", shape.DebugString(), " and not ",
                    tensorflow::DataTypeString(tensor->dtype()), " with ", tensor->dims(),
                    " dimensions.");
  }
  if (status.ok()) {
    *tensor = Tensor(dtype, shape);
    status = reader->Lookup(name, tensor);
  }
  if (status.ok()) return status;
  return DataLoss("The tensor '", name, "' in ", prefix, " cannot be read: ", status.message());
}

// From slot numbers in the bundle to those in the table.
using SlotNumbers = std::unordered_map<int32_t, int32_t>;

absl::Status RestoreShard(BundleReader* reader, const SavedShardsInputs& inputs, int shard,
                          Table* table, const SlotNumbers& slot_numbers,
                          std::atomic<int64_t>* rows) {
  SavedShard saved;
  const std::string shard_name = SavedShardName(inputs.name, shard);
  TF_RETURN_IF_ERROR(saved.ForEach([&](const char* name, Tensor* tensor) {
    if (std::string(name) == kRemovalSlots && !reader->Contains(shard_name + name))
      return absl::OkStatus();
    return ReadTensor(reader, inputs.prefix, shard_name + name, tensor);
  }));
  const int64_t n = saved.keys.NumElements();
  for (const Tensor* column : {&saved.slots, &saved.statistics, &saved.unseen_days, &saved.flags}) {
    if (column->dim_size(0) != n || (column->dims() == 2 && column->dim_size(1) != 3)) {
      return DataLoss("The tensors '", shard_name, "*' in ", inputs.prefix,
                      " are not of one length.");
    }
  }
  if (saved.removal_slots.NumElements() != 0 &&
      saved.removal_slots.NumElements() != saved.removals.NumElements()) {
    return DataLoss("The tensors '", shard_name, "removal*' in ", inputs.prefix,
                    " are not of one length.");
  }
  for (Tensor* slots : {&saved.slots, &saved.removal_slots}) {
    for (int64_t i = 0; i < slots->NumElements() && !slot_numbers.empty(); ++i) {
      int32_t& slot = slots->vec<int32_t>()(i);
      const auto number = slot_numbers.find(slot);
      if (number != slot_numbers.end()) slot = number->second;
    }
  }
  const auto problem =
      table->WriteRows(shard, saved.columns(), {n, saved.floats.NumElements()}, saved.state());
  if (problem) {
    return InvalidArgument("The tensors '", shard_name, "*' in ", inputs.prefix,
                           " do not fit: ", *problem);
  }
  *rows += n;
  return absl::OkStatus();
}

class RestoreOp : public TableKernel {
 public:
  using TableKernel::TableKernel;

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    SavedShardsInputs inputs;
    TF_RETURN_IF_ERROR(inputs.Read(ctx, table));
    const Tensor& saved_slots = ctx->input(4);
    const Tensor& slots = ctx->input(5);
    TF_RETURN_IF_ERROR(RequireShape("saved_slots", saved_slots, {saved_slots.NumElements()}));
    TF_RETURN_IF_ERROR(RequireShape("slots", slots, {saved_slots.NumElements()}));
    SlotNumbers slot_numbers;
    for (int64_t i = 0; i < slots.NumElements(); ++i) {
      slot_numbers[saved_slots.vec<int32_t>()(i)] = slots.vec<int32_t>()(i);
    }
    TF_RETURN_IF_ERROR(CheckBundleIndex(ctx->env(), inputs.prefix));
    std::atomic<int64_t> rows{0};
    std::mutex mutex;
    absl::Status first_error;
    // Each part has its own reader, as a reader is not thread-safe.
    WorkerPool(ctx)(inputs.shards->NumElements(), kShardCycles, [&](int64_t begin, int64_t end) {
      BundleReader reader(ctx->env(), inputs.prefix);
      absl::Status status = reader.status();
      for (int64_t i = begin; status.ok() && i < end; ++i) {
        status = RestoreShard(&reader, inputs, inputs[i], &table, slot_numbers, &rows);
      }
      std::lock_guard<std::mutex> lock(mutex);
      first_error.Update(status);
    });
    TF_RETURN_IF_ERROR(first_error);
    Tensor* restored_rows;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, {}, &restored_rows));
    restored_rows->scalar<int64_t>()() = rows;
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsRestore").Device(tensorflow::DEVICE_CPU), RestoreOp);

}  // namespace
}  // namespace tfps
