// Accumulated batches, which are pushed as one.
#include <algorithm>
#include <new>
#include <string>

#include "ops/core/joined_push.h"
#include "ops/core/table.h"

namespace tfps {

std::optional<std::string> Table::Accumulate(const PushBatch& batch, int64_t ticket,
                                             int64_t batch_number) {
  try {
    accumulated_.Add(batch, ticket, batch_number);
  } catch (const std::bad_alloc&) {
    return "There is no memory to keep " + std::to_string(batch.n) +
           " pushed rows until they are applied: apply after fewer batches, or give the table more "
           "servers.";
  }
  return std::nullopt;
}

std::optional<std::string> Table::ApplyAccumulated(const ParallelFor& parallel_for, int64_t* rows) {
  version_ += accumulated_messages_.exchange(0);
  const OwnedBatch merged = accumulated_.TakeMerged();
  return PushJoined(merged.View(), parallel_for, rows);
}

std::optional<std::string> Table::PushJoined(const PushBatch& batch,
                                             const ParallelFor& parallel_for, int64_t* rows) {
  if (batch.readers != nullptr) {
    const JoinedPush joined(batch, options().gradient_scale);
    return PushJoined(joined.batch(), parallel_for, rows);
  }
  *rows = std::count_if(batch.keys, batch.keys + batch.n,
                        [](uint64_t key) { return !IsReserved(key); });
  if (batch.n == 0) return std::nullopt;
  return Push(batch, parallel_for);
}

void Table::SetClock(int64_t finished_below) {
  clock_.SetFinishedBelow(finished_below);
  accumulated_.Clear();
  accumulated_messages_ = 0;
}

}  // namespace tfps
