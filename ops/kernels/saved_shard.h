// One shard in a checkpoint: its tensors, named `<table_name>/shard-00012/keys` and so on.
#ifndef OPS_KERNELS_SAVED_SHARD_H_
#define OPS_KERNELS_SAVED_SHARD_H_

#include <algorithm>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include "ops/kernels/table_resource.h"

namespace tfps {

constexpr char kRemovalSlots[] = "removal_slots";  // not in checkpoints of tfps 0.1

struct SavedShard {
  tensorflow::Tensor keys{tensorflow::DT_INT64, {0}};            // [n]
  tensorflow::Tensor slots{tensorflow::DT_INT32, {0}};           // [n]
  tensorflow::Tensor statistics{tensorflow::DT_DOUBLE, {0, 3}};  // [n, 3]: show, click, delta_score
  tensorflow::Tensor unseen_days{tensorflow::DT_UINT16, {0}};    // [n]
  tensorflow::Tensor flags{tensorflow::DT_UINT16, {0}};          // [n]: 1 admitted, 2 served
  tensorflow::Tensor floats{tensorflow::DT_FLOAT, {0}};          // of each row in order
  tensorflow::Tensor finished_day{tensorflow::DT_INT64, {}};     // []
  tensorflow::Tensor removals{tensorflow::DT_INT64, {0}};        // [r]: keys of pending removals
  tensorflow::Tensor removal_slots{tensorflow::DT_INT32, {0}};   // [r], or none: not known
  tensorflow::Tensor whole{tensorflow::DT_BOOL, {}};             // []: whether these are all rows

  // Throws std::bad_alloc if there is no memory.
  void Allocate(const RowColumnsSize& size) {
    keys = Allocated(tensorflow::DT_INT64, {size.rows});
    slots = Allocated(tensorflow::DT_INT32, {size.rows});
    statistics = Allocated(tensorflow::DT_DOUBLE, {size.rows, 3});
    unseen_days = Allocated(tensorflow::DT_UINT16, {size.rows});
    flags = Allocated(tensorflow::DT_UINT16, {size.rows});
    floats = Allocated(tensorflow::DT_FLOAT, {size.floats});
  }

  RowColumns columns() {
    return {reinterpret_cast<uint64_t*>(keys.flat<int64_t>().data()),
            slots.flat<int32_t>().data(),
            statistics.flat<double>().data(),
            unseen_days.flat<uint16_t>().data(),
            flags.flat<uint16_t>().data(),
            floats.flat<float>().data()};
  }

  void SetState(const ShardState& state) {
    finished_day.scalar<int64_t>()() = state.finished_day;
    whole.scalar<bool>()() = state.whole;
    const int64_t r = static_cast<int64_t>(state.removals.size());
    removals = Allocated(tensorflow::DT_INT64, {r});
    removal_slots = Allocated(tensorflow::DT_INT32, {r});
    for (int64_t i = 0; i < r; ++i) {
      removals.flat<int64_t>()(i) = static_cast<int64_t>(state.removals[i].key);
      removal_slots.flat<int32_t>()(i) = state.removals[i].slot;
    }
  }

  ShardState state() const {
    ShardState state = {finished_day.scalar<int64_t>()(), whole.scalar<bool>()(), {}};
    const bool known = removal_slots.NumElements() == removals.NumElements();
    for (int64_t i = 0; i < removals.NumElements(); ++i) {
      state.removals.push_back({static_cast<uint64_t>(removals.flat<int64_t>()(i)),
                                known ? removal_slots.flat<int32_t>()(i) : kUnknownSlot});
    }
    return state;
  }

  // Calls visit(name, tensor) for each tensor until one returns an error.
  template <typename Visit>
  absl::Status ForEach(Visit visit) {
    TF_RETURN_IF_ERROR(visit("keys", &keys));
    TF_RETURN_IF_ERROR(visit("slots", &slots));
    TF_RETURN_IF_ERROR(visit("statistics", &statistics));
    TF_RETURN_IF_ERROR(visit("unseen_days", &unseen_days));
    TF_RETURN_IF_ERROR(visit("flags", &flags));
    TF_RETURN_IF_ERROR(visit("floats", &floats));
    TF_RETURN_IF_ERROR(visit("finished_day", &finished_day));
    TF_RETURN_IF_ERROR(visit("removals", &removals));
    TF_RETURN_IF_ERROR(visit(kRemovalSlots, &removal_slots));
    return visit("whole", &whole);
  }

 private:
  static tensorflow::Tensor Allocated(tensorflow::DataType dtype,
                                      const tensorflow::TensorShape& shape) {
    tensorflow::Tensor tensor(dtype, shape);
    if (!tensor.IsInitialized()) throw std::bad_alloc();
    return tensor;
  }
};

inline std::string SavedShardName(const std::string& table_name, int shard) {
  char number[16];
  std::snprintf(number, sizeof(number), "%05d", shard);
  return table_name + "/shard-" + number + "/";
}

// The inputs that save and restore share, after the table: prefix, table_name, shards.
struct SavedShardsInputs {
  std::string prefix;
  std::string name;
  const tensorflow::Tensor* shards;

  absl::Status Read(tensorflow::OpKernelContext* ctx, const Table& table) {
    TF_RETURN_IF_ERROR(RequireShape("prefix", ctx->input(1), {}));
    TF_RETURN_IF_ERROR(RequireShape("table_name", ctx->input(2), {}));
    prefix = ctx->input(1).scalar<tensorflow::tstring>()();
    name = ctx->input(2).scalar<tensorflow::tstring>()();
    shards = &ctx->input(3);
    TF_RETURN_IF_ERROR(RequireShape("shards", *shards, {shards->NumElements()}));
    const int num_shards = table.num_shards();
    for (int64_t i = 0; i < shards->NumElements(); ++i) {
      const int shard = (*this)[i];
      if (shard < 0 || shard >= num_shards) {
        return InvalidArgument("shards must be from 0 to ", num_shards - 1,
                               " (num_shards - 1), not ", shard, ".");
      }
    }
    return absl::OkStatus();
  }

  int operator[](int64_t i) const { return shards->vec<int32_t>()(i); }
};

}  // namespace tfps

#endif  // OPS_KERNELS_SAVED_SHARD_H_
