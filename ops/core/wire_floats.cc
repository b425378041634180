#include "ops/core/wire_floats.h"

#include <algorithm>
#include <cstring>

#include "ops/core/hash.h"

namespace tfps {
namespace {

// Loops run over blocks of a fixed size without branches, so that -O2 vectorises them.
constexpr int kBlockFloats = 64;

constexpr uint32_t kInfinityBits = 0x7f800000;   // as float32
constexpr uint32_t kSmallestNormal = 113 << 23;  // of float16, 2^-14, as float32
constexpr uint32_t kRebias = 112 << 23;          // between the exponents of float32 and float16

uint32_t Bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Rounds up with a probability given by the bits that are cut off. `noise` is 16 random bits.
struct AtRandom {
  static uint32_t ToBfloat16(uint32_t magnitude, uint32_t noise) {
    return (magnitude + noise) >> 16;
  }
  static uint32_t ToFloat16(uint32_t magnitude, uint32_t noise) {
    return (magnitude - kRebias + (noise >> 3)) >> 13;
  }
  // In units of 2^-24, the last bit of a small float16, with 16 bits behind the point.
  static uint32_t ToSmallFloat16(float magnitude, uint32_t noise) {
    return (static_cast<uint32_t>(static_cast<int32_t>(magnitude * 0x1p40f)) + noise) >> 16;
  }
};

struct ToNearest {
  static uint32_t ToBfloat16(uint32_t magnitude, uint32_t) {
    return (magnitude + 0x7fff + (magnitude >> 16 & 1)) >> 16;
  }
  static uint32_t ToFloat16(uint32_t magnitude, uint32_t) {
    return (magnitude - kRebias + 0xfff + (magnitude >> 13 & 1)) >> 13;
  }
  // The last bit of 0.5 is 2^-24, so that the addition rounds to it.
  static uint32_t ToSmallFloat16(float magnitude, uint32_t) {
    return Bits(magnitude + 0.5f) - Bits(0.5f);
  }
};

struct Bfloat16 {
  template <typename Rounding>
  static uint16_t Round(float value, uint32_t noise) {
    const uint32_t bits = Bits(value);
    const uint32_t magnitude = bits & 0x7fffffff;
    uint32_t rounded = Rounding::ToBfloat16(magnitude, noise);
    rounded = rounded > 0x7f7f ? 0x7f7f : rounded;
    rounded = magnitude == kInfinityBits ? 0x7f80 : rounded;
    rounded = magnitude > kInfinityBits ? 0x7fc0 : rounded;
    return static_cast<uint16_t>((bits >> 16 & 0x8000) | rounded);
  }
  static float Read(uint16_t wire) { return FromBits(uint32_t{wire} << 16); }
};

struct Float16 {
  template <typename Rounding>
  static uint16_t Round(float value, uint32_t noise) {
    const uint32_t bits = Bits(value);
    const uint32_t magnitude = bits & 0x7fffffff;
    const bool small = magnitude < kSmallestNormal;
    const uint32_t rounded_small = Rounding::ToSmallFloat16(FromBits(small ? magnitude : 0), noise);
    uint32_t rounded = Rounding::ToFloat16(small ? kSmallestNormal : magnitude, noise);
    rounded = small ? rounded_small : rounded;
    rounded = rounded > 0x7bff ? 0x7bff : rounded;
    rounded = magnitude == kInfinityBits ? 0x7c00 : rounded;
    rounded = magnitude > kInfinityBits ? 0x7e00 : rounded;
    return static_cast<uint16_t>((bits >> 16 & 0x8000) | rounded);
  }
  static float Read(uint16_t wire) {
    const uint32_t sign = uint32_t{wire & 0x8000u} << 16;
    const uint32_t shifted = (wire & 0x7fffu) << 13;
    const float small = FromBits(shifted + kSmallestNormal) - FromBits(kSmallestNormal);
    uint32_t magnitude = shifted + kRebias;
    magnitude = shifted < 1 << 23 ? Bits(small) : magnitude;
    magnitude = shifted >= 31 << 23 ? shifted + 2 * kRebias : magnitude;
    return FromBits(sign | magnitude);
  }
};

struct Noise {
  uint16_t bits[kBlockFloats];

  void Fill(uint64_t seed, int64_t block) {
    constexpr size_t kWords = kBlockFloats * sizeof(uint16_t) / sizeof(uint64_t);
    for (size_t i = 0; i < kWords; ++i) {
      const uint64_t word = SplitMix64(seed + static_cast<uint64_t>(block) * kWords + i);
      std::memcpy(bits + 4 * i, &word, sizeof(word));
    }
  }
};

template <typename Format, typename Rounding>
void RoundBlock(const float* __restrict values, float scale, const uint16_t* __restrict noise,
                uint16_t* __restrict wire) {
  for (int i = 0; i < kBlockFloats; ++i) {
    wire[i] = Format::template Round<Rounding>(values[i] * scale, noise[i]);
  }
}

template <typename Format, typename Rounding>
void RoundAll(const float* values, int64_t n, float scale, uint64_t seed, char* wire) {
  Noise noise = {};
  uint16_t rounded[kBlockFloats];
  for (int64_t begin = 0; begin < n; begin += kBlockFloats) {
    const int64_t count = std::min<int64_t>(kBlockFloats, n - begin);
    if (std::is_same<Rounding, AtRandom>::value) noise.Fill(seed, begin / kBlockFloats);
    if (count == kBlockFloats) {
      RoundBlock<Format, Rounding>(values + begin, scale, noise.bits, rounded);
    } else {
      float rest[kBlockFloats] = {};
      std::copy_n(values + begin, count, rest);
      RoundBlock<Format, Rounding>(rest, scale, noise.bits, rounded);
    }
    std::memcpy(wire + 2 * begin, rounded, 2 * count);
  }
}

template <typename Format>
void ReadAll(const char* wire, int64_t n, float* values) {
  uint16_t block[kBlockFloats] = {};
  float read[kBlockFloats];
  for (int64_t begin = 0; begin < n; begin += kBlockFloats) {
    const int64_t count = std::min<int64_t>(kBlockFloats, n - begin);
    std::memcpy(block, wire + 2 * begin, 2 * count);
    for (int i = 0; i < kBlockFloats; ++i) read[i] = Format::Read(block[i]);
    std::memcpy(values + begin, read, 4 * count);
  }
}

void Multiply(const float* values, int64_t n, float scale, char* wire) {
  float block[kBlockFloats];
  for (int64_t begin = 0; begin < n; begin += kBlockFloats) {
    const int64_t count = std::min<int64_t>(kBlockFloats, n - begin);
    if (count == kBlockFloats) {
      for (int i = 0; i < kBlockFloats; ++i) block[i] = values[begin + i] * scale;
    } else {
      for (int64_t i = 0; i < count; ++i) block[i] = values[begin + i] * scale;
    }
    std::memcpy(wire + 4 * begin, block, 4 * count);
  }
}

}  // namespace

void RoundToNearest(const float* values, int64_t n, WireDtype dtype, char* wire) {
  switch (dtype) {
    case WireDtype::kFloat32:
      if (n > 0) std::memcpy(wire, values, n * sizeof(float));
      break;
    case WireDtype::kBfloat16: RoundAll<Bfloat16, ToNearest>(values, n, 1, 0, wire); break;
    case WireDtype::kFloat16: RoundAll<Float16, ToNearest>(values, n, 1, 0, wire); break;
  }
}

void RoundAtRandom(const float* values, int64_t n, float scale, uint64_t seed, WireDtype dtype,
                   char* wire) {
  switch (dtype) {
    case WireDtype::kFloat32: Multiply(values, n, scale, wire); break;
    case WireDtype::kBfloat16: RoundAll<Bfloat16, AtRandom>(values, n, scale, seed, wire); break;
    case WireDtype::kFloat16: RoundAll<Float16, AtRandom>(values, n, scale, seed, wire); break;
  }
}

void ReadWire(const char* wire, int64_t n, WireDtype dtype, float* values) {
  switch (dtype) {
    case WireDtype::kFloat32:
      if (n > 0) std::memcpy(values, wire, n * sizeof(float));
      break;
    case WireDtype::kBfloat16: ReadAll<Bfloat16>(wire, n, values); break;
    case WireDtype::kFloat16: ReadAll<Float16>(wire, n, values); break;
  }
}

}  // namespace tfps
