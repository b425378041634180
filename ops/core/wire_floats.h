// The floats of messages: float32 as they are, or rounded to the 16 bits of bfloat16 or float16.
//
// NaN and infinities stay what they are. A finite value beyond the range of the format becomes
// its largest value.
#ifndef OPS_CORE_WIRE_FLOATS_H_
#define OPS_CORE_WIRE_FLOATS_H_

#include <cstdint>

namespace tfps {

enum class WireDtype : uint8_t { kFloat32 = 0, kBfloat16 = 1, kFloat16 = 2 };

inline int WireBytes(WireDtype dtype) { return dtype == WireDtype::kFloat32 ? 4 : 2; }

// Rounds n values to the nearest, ties to even.
void RoundToNearest(const float* values, int64_t n, WireDtype dtype, char* wire);

// Multiplies n values by `scale` and rounds each up or down at random, so that the mean over many
// seeds is the value itself. A pure function of seed and position.
void RoundAtRandom(const float* values, int64_t n, float scale, uint64_t seed, WireDtype dtype,
                   char* wire);

// Reads n values back; this is exact.
void ReadWire(const char* wire, int64_t n, WireDtype dtype, float* values);

}  // namespace tfps

#endif  // OPS_CORE_WIRE_FLOATS_H_
