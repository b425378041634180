// Hashing and the special keys. Every process computes the same values, for the life of a table:
// placement, index and initial embeddings depend on them, so nothing here may ever change.
#ifndef OPS_CORE_HASH_H_
#define OPS_CORE_HASH_H_

#include <cstdint>

namespace tfps {

// The key that pads multi-valued slots: it reads as zeros and is never stored or counted.
constexpr uint64_t kPadding = 0;

// Serving's empty and deleted keys, the int64 values -2^63 and -2^63 + 1.
constexpr uint64_t kReservedEmpty = 0x8000000000000000;
constexpr uint64_t kReservedDeleted = 0x8000000000000001;

inline bool IsReserved(uint64_t key) { return key == kReservedEmpty || key == kReservedDeleted; }

// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), a
// bijection.
inline uint64_t SplitMix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Maps 32 evenly spread bits to [0, range) without a division.
inline uint32_t ScaleToRange(uint32_t bits, uint32_t range) {
  return static_cast<uint32_t>((static_cast<uint64_t>(bits) * range) >> 32);
}

// The virtual shard of a key whose SplitMix64 is `hash`. Uses only the upper 32 bits.
inline uint32_t VirtualShardOfHash(uint64_t hash, uint32_t num_shards) {
  return ScaleToRange(static_cast<uint32_t>(hash >> 32), num_shards);
}

inline uint32_t VirtualShard(uint64_t key, uint32_t num_shards) {
  return VirtualShardOfHash(SplitMix64(key), num_shards);
}

}  // namespace tfps

#endif  // OPS_CORE_HASH_H_
