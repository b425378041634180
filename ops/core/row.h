// How a row lies in memory: a 40-byte head, then floats.
//
//   RowHead | lr_w, lr state | mf_w[mf_dim], mf state
//
// The last part is there exactly when kAdmitted is set. Rows are multiples of 8 bytes and start at
// one. The key of a row in use is never 0: padding is not stored, so a block whose key is 0 is
// free.
#ifndef OPS_CORE_ROW_H_
#define OPS_CORE_ROW_H_

#include <cstdint>

#include "ops/core/hash.h"

namespace tfps {

struct RowHead {
  uint64_t key;
  double show;
  double click;
  double delta_score;  // the scores of all pushes since the last export that contained the row
  int32_t slot;        // of the push that created the row
  uint16_t unseen_days;
  uint16_t flags;
};
static_assert(sizeof(RowHead) == 40, "a head is 40 bytes");

constexpr uint16_t kAdmitted = 1;  // the row owns an mf vector
constexpr uint16_t kServed = 2;    // the row is in what serving holds
constexpr uint16_t kTouched = 4;   // the row was changed since its shard was last read; see Arena
constexpr uint16_t kCaptured = 8;  // the row was in an export's capture; a row of its key that comes later was not
constexpr uint16_t kSavedFlags = kAdmitted | kServed;

inline bool IsAdmitted(const RowHead* row) { return row->flags & kAdmitted; }
inline float* Floats(RowHead* row) { return reinterpret_cast<float*>(row + 1); }
inline const float* Floats(const RowHead* row) { return reinterpret_cast<const float*>(row + 1); }

// Where the floats of a row are, counted from Floats(row). lr_w is at 0.
struct RowLayout {
  int mf_dim;
  int lr_state_floats;
  int mf_state_floats;

  int lr_state() const { return 1; }
  int mf_w() const { return 1 + lr_state_floats; }
  int mf_state() const { return mf_w() + mf_dim; }

  int head_floats() const { return mf_w(); }                            // of a row without mf
  int admitted_floats() const { return mf_state() + mf_state_floats; }  // of one with mf
  int floats(bool admitted) const { return admitted ? admitted_floats() : head_floats(); }
  int bytes(bool admitted) const {
    return (static_cast<int>(sizeof(RowHead)) + 4 * floats(admitted) + 7) / 8 * 8;
  }
};

// The initial mf_w of a key: uniform in [-range, range), the same whatever the order of pushes, the
// number of servers or a restart.
inline void InitMf(uint64_t seed, uint64_t key, double range, float* mf_w, int mf_dim) {
  const uint64_t stream = SplitMix64(seed ^ key);
  for (int d = 0; d < mf_dim; ++d) {
    const double u = static_cast<double>(SplitMix64(stream + d) >> 40) / (1 << 24);
    mf_w[d] = static_cast<float>(range * (2 * u - 1));
  }
}

}  // namespace tfps

#endif  // OPS_CORE_ROW_H_
