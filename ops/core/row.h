// The memory layout of a row: a 40-byte head, then floats.
//
//   RowHead | lr_w, lr state | mf_w[mf_dim], mf state
//
// The last part exists exactly when kAdmitted is set. The size of a row is a multiple of 16 bytes;
// a row is aligned to 8. All that a pull reads is contiguous, from the key on. The key of a row in
// use is never 0: padding is not stored, so a block whose key is 0 is free.
//
// Pulls read without the lock that all others hold. Therefore key, slot, flags and weights are
// written only by the functions in this file, and a pull reads them only by those.
#ifndef OPS_CORE_ROW_H_
#define OPS_CORE_ROW_H_

#include <cstdint>
#include <cstring>

#include "ops/core/hash.h"

namespace tfps {

struct RowHead {
  double show;
  double click;
  double delta_score;  // sum of the scores of pushes since an export last held the row
  uint64_t key;
  int32_t slot;  // of the push that created the row
  uint16_t unseen_days;
  uint16_t flags;
};
static_assert(sizeof(RowHead) == 40, "a head is 40 bytes");

constexpr uint16_t kAdmitted = 1;  // the row owns an mf vector
constexpr uint16_t kServed = 2;    // serving holds the row
constexpr uint16_t kTouched = 4;   // the row was changed since its shard was last read; see Arena
constexpr uint16_t kCaptured = 8;  // an export captured this row, not an earlier one of its key
constexpr uint16_t kSavedFlags = kAdmitted | kServed;

template <typename T>
T LoadShared(const T* from) {
  return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}
template <typename T>
void StoreShared(T* to, T value) {
  __atomic_store_n(to, value, __ATOMIC_RELEASE);
}

inline void SetKey(RowHead* row, uint64_t key) { StoreShared(&row->key, key); }
inline void SetSlot(RowHead* row, int32_t slot) { StoreShared(&row->slot, slot); }
inline void SetFlags(RowHead* row, int flags) {
  StoreShared(&row->flags, static_cast<uint16_t>(flags));
}

// Each of the n weights of a row is read or written whole.
inline void LoadWeights(const float* weights, int n, float* out) {
  const auto bits = [](const float* at) { return reinterpret_cast<const uint32_t*>(at); };
  int i = 0;
  if (n > 0 && reinterpret_cast<uintptr_t>(weights) % 8 != 0) {
    const uint32_t one = LoadShared(bits(weights));
    std::memcpy(out, &one, sizeof(one));
    i = 1;
  }
  for (; i + 1 < n; i += 2) {
    const uint64_t two = LoadShared(reinterpret_cast<const uint64_t*>(weights + i));
    std::memcpy(out + i, &two, sizeof(two));
  }
  if (i < n) {
    const uint32_t one = LoadShared(bits(weights + i));
    std::memcpy(out + i, &one, sizeof(one));
  }
}
inline void StoreWeights(const float* values, int n, float* weights) {
  const auto store = [&](int i) {
    uint32_t one;
    std::memcpy(&one, values + i, sizeof(one));
    StoreShared(reinterpret_cast<uint32_t*>(weights + i), one);
  };
  int i = 0;
  if (n > 0 && reinterpret_cast<uintptr_t>(weights) % 8 != 0) store(i++);
  for (; i + 1 < n; i += 2) {
    uint64_t two;
    std::memcpy(&two, values + i, sizeof(two));
    StoreShared(reinterpret_cast<uint64_t*>(weights + i), two);
  }
  if (i < n) store(i);
}

inline bool IsAdmitted(const RowHead* row) { return row->flags & kAdmitted; }
inline float* Floats(RowHead* row) { return reinterpret_cast<float*>(row + 1); }
inline const float* Floats(const RowHead* row) { return reinterpret_cast<const float*>(row + 1); }

// Offsets of the floats of a row from Floats(row). lr_w is at 0.
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
    return (static_cast<int>(sizeof(RowHead)) + 4 * floats(admitted) + 15) / 16 * 16;
  }
};

// The initial mf_w of a key: uniform in [-range, range). It does not depend on the order of pushes,
// on the number of servers or on restarts.
inline void InitMf(uint64_t seed, uint64_t key, double range, float* mf_w, int mf_dim) {
  const uint64_t stream = SplitMix64(seed ^ key);
  for (int d = 0; d < mf_dim; ++d) {
    const double u = static_cast<double>(SplitMix64(stream + d) >> 40) / (1 << 24);
    mf_w[d] = static_cast<float>(range * (2 * u - 1));
  }
}

}  // namespace tfps

#endif  // OPS_CORE_ROW_H_
