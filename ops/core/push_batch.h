// The columns of a push and of an inspection, whose memory the caller owns.
#ifndef OPS_CORE_PUSH_BATCH_H_
#define OPS_CORE_PUSH_BATCH_H_

#include <cmath>
#include <cstdint>
#include <limits>

namespace tfps {

// The step_show of a row that is frozen: it takes no step and is not admitted; its counts count.
inline constexpr float kFrozen = std::numeric_limits<float>::quiet_NaN();
inline bool IsFrozen(double step_show) { return std::isnan(step_show); }

// The slot that read a row: kOwnSlot, or the number that the model gives to a slot that reads the
// rows of another one. Of a slot that does not count, the number is negative.
inline constexpr int32_t kOwnSlot = 0;
inline bool ReaderCounts(int32_t reader) { return reader >= 0; }

// A batch of pushes: n rows of key, slot, show, click and the gradients of lr_w and mf_w. A row
// uses as many gradients as its mf_w is long; those beyond `width` are zero. References are what an
// earlier pull returned for the keys: they save the look-up of rows that are still there.
//
// A batch with readers has one row for each key and reader; JoinedPush makes a batch that can be
// pushed of it. The show of a reader that does not count is that of its gradient only.
struct PushBatch {
  int64_t n;
  int width;
  const uint64_t* keys;                  // (n)
  const int32_t* slots;                  // (n)
  const float* show;                     // (n)
  const float* click;                    // (n)
  const float* gradients;                // (n, width)
  const uint32_t* references = nullptr;  // (n), or none
  const float* step_show = nullptr;      // (n), the show that the gradient is of; or none: `show`
  const int32_t* readers = nullptr;      // (n), or none: each slot read its own rows
  int64_t uncounted = 0;  // so many rows at the end make no row, admit none, and add no counts

  bool Counts(int64_t i) const { return i < n - uncounted; }
  float StepShow(int64_t i) const { return step_show == nullptr ? show[i] : step_show[i]; }
};

// The reference of a key without a row, and of every key in an engine without references.
inline constexpr uint32_t kNoReference = UINT32_MAX;

// The columns that Inspect writes.
struct InspectedRows {
  bool* found;           // (n)
  int32_t* slot;         // (n)
  double* statistics;    // (n, 3): show, click, delta_score
  int32_t* unseen_days;  // (n)
  bool* admitted;        // (n)
  bool* served;          // (n)
  float* floats;         // (n, row_floats): lr_w, lr state, mf_w, mf state, zeros
};

}  // namespace tfps

#endif  // OPS_CORE_PUSH_BATCH_H_
