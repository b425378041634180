// Slots that read the rows of others: one row for each key of what a push brings for each reader.
#ifndef OPS_CORE_JOINED_PUSH_H_
#define OPS_CORE_JOINED_PUSH_H_

#include <cstdint>
#include <vector>

#include "ops/core/options.h"
#include "ops/core/push_batch.h"

namespace tfps {

// A batch in which each key appears once, with the slot and reference of its first row.
//
// Counts are those of the readers that count. The gradient is the sum over the readers that are not
// frozen: of their gradients, or with GradientScale::kPerShow of each one's gradient over its own
// show. Keys that only readers have which do not count come last; see PushBatch::uncounted.
class JoinedPush {
 public:
  // `batch` has readers. What it points to need not outlive this object.
  JoinedPush(const PushBatch& batch, GradientScale scale);

  JoinedPush(const JoinedPush&) = delete;
  JoinedPush& operator=(const JoinedPush&) = delete;

  const PushBatch& batch() const { return batch_; }

 private:
  void Append(const PushBatch& from, int64_t i, bool counts);
  void AddGradient(const PushBatch& from, int64_t i, GradientScale scale, int64_t row);

  std::vector<int64_t> keys_;
  std::vector<int32_t> slots_;
  std::vector<uint32_t> references_;
  std::vector<double> show_sums_, click_sums_;
  std::vector<float> show_, click_, step_show_, gradients_;
  PushBatch batch_ = {};
};

}  // namespace tfps

#endif  // OPS_CORE_JOINED_PUSH_H_
