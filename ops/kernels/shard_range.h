// The inputs first_shard and last_shard of an op that works on a range of a table's shards.
#ifndef OPS_KERNELS_SHARD_RANGE_H_
#define OPS_KERNELS_SHARD_RANGE_H_

#include "ops/kernels/table_resource.h"

namespace tfps {

struct ShardRange {
  int first;
  int last;  // one past the last
};

// Reads the op's second and third input.
inline absl::Status ReadShardRange(tensorflow::OpKernelContext* ctx, const Table& table,
                                   ShardRange* range) {
  TF_RETURN_IF_ERROR(RequireShape("first_shard", ctx->input(1), {}));
  TF_RETURN_IF_ERROR(RequireShape("last_shard", ctx->input(2), {}));
  *range = {ctx->input(1).scalar<int32_t>()(), ctx->input(2).scalar<int32_t>()()};
  if (0 <= range->first && range->first <= range->last && range->last <= table.num_shards()) {
    return absl::OkStatus();
  }
  return InvalidArgument("first_shard and last_shard must be a range within 0 to ",
                         table.num_shards(), " (num_shards), not ", range->first, " to ",
                         range->last, ".");
}

}  // namespace tfps

#endif  // OPS_KERNELS_SHARD_RANGE_H_
