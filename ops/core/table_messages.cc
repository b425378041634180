// Applies the messages of workers, each once, and measures their staleness.
#include <algorithm>
#include <string>

#include "ops/core/message.h"
#include "ops/core/table.h"

namespace tfps {
namespace {

void RaiseTo(int64_t value, std::atomic<int64_t>* most) {
  int64_t seen = *most;
  while (seen < value && !most->compare_exchange_weak(seen, value)) {
  }
}

}  // namespace

std::optional<std::string> Table::ApplyMessage(const PushMessage& message, bool accumulate,
                                               const ParallelFor& parallel_for) {
  const Step& step = message.shape.step;
  if (!clock_.Claim(step.ticket, step.batch, step.finished_below)) {
    ++repeated_pushes_;
    return std::nullopt;
  }
  nonfinite_counts_ += message.shape.nonfinite_counts;
  if (step.ticket >= 0) RaiseTo(clock_.newest() - step.ticket, &tickets_ahead_max_);
  const DecodedPush push(message);
  // A version ahead of this table's is from before a restart, or from another table.
  const int64_t pulled = std::clamp<int64_t>(message.shape.version, 0, version_);
  const int64_t staleness =
      std::max<int64_t>((accumulate ? version_.load() : version_++) - pulled, 0);
  staleness_sum_ += staleness;
  RaiseTo(staleness, &staleness_max_);
  if (!accumulate) {
    int64_t rows;
    return PushJoined(push.batch(), parallel_for, &rows);
  }
  ++accumulated_messages_;
  return Accumulate(push.batch(), step.ticket, step.batch);
}

}  // namespace tfps
