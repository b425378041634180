// Finds the index of a key among distinct keys.
#ifndef OPS_CORE_UNIQUE_INDEX_H_
#define OPS_CORE_UNIQUE_INDEX_H_

#include <cstdint>
#include <vector>

#include "ops/core/prefetch.h"

namespace tfps {

// Open addressing in 32-bit entries, which hold 1 + index into `keys`, or 0; at most half of them
// are taken.
class UniqueIndex {
 public:
  explicit UniqueIndex(int64_t max_keys) {
    int64_t size = 16;
    while (size < 2 * max_keys) size *= 2;
    entries_.resize(size);
    mask_ = static_cast<uint64_t>(size - 1);
  }

  // The entry of `key`, 0 if it is new; the caller then sets it.
  uint32_t& Find(int64_t key, uint64_t hash, const std::vector<int64_t>& keys) {
    uint64_t i = hash & mask_;
    while (entries_[i] != 0 && keys[entries_[i] - 1] != key) i = (i + 1) & mask_;
    return entries_[i];
  }

  [[gnu::always_inline]] void PrefetchFor(uint64_t hash) const {
    Prefetch(&entries_[hash & mask_]);
  }

 private:
  std::vector<uint32_t> entries_;
  uint64_t mask_;
};

}  // namespace tfps

#endif  // OPS_CORE_UNIQUE_INDEX_H_
