// FarmHash's 64-bit fingerprint (Pike, Alakuijala 2014), which tf.fingerprint computes: feasigns of
// texts are made of it, so nothing here may ever change.
#ifndef OPS_CORE_FINGERPRINT_H_
#define OPS_CORE_FINGERPRINT_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

namespace tfps {
namespace fingerprint {

constexpr uint64_t k0 = 0xc3a5c85c97cb3127;
constexpr uint64_t k1 = 0xb492b66fbe98f273;
constexpr uint64_t k2 = 0x9ae16a3b2f90404f;

using Pair = std::pair<uint64_t, uint64_t>;

template <typename Word>
inline uint64_t Read(const char* at) {
  Word word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

inline uint64_t Read64(const char* at) { return Read<uint64_t>(at); }

inline uint64_t Rotate(uint64_t bits, int by) { return (bits >> by) | (bits << (64 - by)); }

inline uint64_t ShiftMix(uint64_t bits) { return bits ^ (bits >> 47); }

inline uint64_t Mix(uint64_t u, uint64_t v, uint64_t factor) {
  const uint64_t a = ShiftMix((u ^ v) * factor);
  return ShiftMix((v ^ a) * factor) * factor;
}

inline uint64_t OfAtMost16(const char* s, size_t size) {
  const uint64_t factor = k2 + size * 2;
  if (size >= 8) {
    const uint64_t a = Read64(s) + k2, b = Read64(s + size - 8);
    return Mix(Rotate(b, 37) * factor + a, (Rotate(a, 25) + b) * factor, factor);
  }
  if (size >= 4) {
    return Mix(size + (Read<uint32_t>(s) << 3), Read<uint32_t>(s + size - 4), factor);
  }
  if (size == 0) return k2;
  const uint32_t a = static_cast<uint8_t>(s[0]), b = static_cast<uint8_t>(s[size >> 1]);
  const uint32_t c = static_cast<uint8_t>(s[size - 1]);
  const uint32_t y = a + (b << 8), z = static_cast<uint32_t>(size) + (c << 2);
  return ShiftMix(y * k2 ^ z * k0) * k2;
}

inline uint64_t OfAtMost32(const char* s, size_t size) {
  const uint64_t factor = k2 + size * 2;
  const uint64_t a = Read64(s) * k1, b = Read64(s + 8);
  const uint64_t c = Read64(s + size - 8) * factor, d = Read64(s + size - 16) * k2;
  return Mix(Rotate(a + b, 43) + Rotate(c, 30) + d, a + Rotate(b + k2, 18) + c, factor);
}

inline uint64_t OfAtMost64(const char* s, size_t size) {
  const uint64_t factor = k2 + size * 2;
  const uint64_t a = Read64(s) * k2, b = Read64(s + 8);
  const uint64_t c = Read64(s + size - 8) * factor, d = Read64(s + size - 16) * k2;
  const uint64_t y = Rotate(a + b, 43) + Rotate(c, 30) + d;
  const uint64_t z = Mix(y, a + Rotate(b + k2, 18) + c, factor);
  const uint64_t e = Read64(s + 16) * factor, f = Read64(s + 24);
  const uint64_t g = (y + Read64(s + size - 32)) * factor;
  const uint64_t h = (z + Read64(s + size - 24)) * factor;
  return Mix(Rotate(e + f, 43) + Rotate(g, 30) + h, e + Rotate(f + a, 18) + g, factor);
}

// 32 bytes with two seeds, weakly.
inline Pair Weak(const char* s, uint64_t a, uint64_t b) {
  const uint64_t w = Read64(s), z = Read64(s + 24);
  a += w;
  b = Rotate(b + a + z, 21);
  const uint64_t c = a;
  a += Read64(s + 8) + Read64(s + 16);
  b += Rotate(a, 44);
  return {a + z, b + c};
}

inline uint64_t OfMore(const char* s, size_t size) {
  const char* const end = s + (size - 1) / 64 * 64;
  const char* const last = s + size - 64;
  uint64_t x = 81, y = 81 * k1 + 113, z = ShiftMix(y * k2 + 113) * k2;
  Pair v{0, 0}, w{0, 0};
  x = x * k2 + Read64(s);
  for (; s != end; s += 64) {
    x = Rotate(x + y + v.first + Read64(s + 8), 37) * k1;
    y = Rotate(y + v.second + Read64(s + 48), 42) * k1;
    x ^= w.second;
    y += v.first + Read64(s + 40);
    z = Rotate(z + w.first, 33) * k1;
    v = Weak(s, v.second * k1, x + w.first);
    w = Weak(s + 32, z + w.second, y + Read64(s + 16));
    std::swap(z, x);
  }
  const uint64_t factor = k1 + ((z & 0xff) << 1);
  s = last;
  w.first += (size - 1) & 63;
  v.first += w.first;
  w.first += v.first;
  x = Rotate(x + y + v.first + Read64(s + 8), 37) * factor;
  y = Rotate(y + v.second + Read64(s + 48), 42) * factor;
  x ^= w.second * 9;
  y += v.first * 9 + Read64(s + 40);
  z = Rotate(z + w.first, 33) * factor;
  v = Weak(s, v.second * factor, x + w.first);
  w = Weak(s + 32, z + w.second, y + Read64(s + 16));
  std::swap(z, x);
  return Mix(Mix(v.first, w.first, factor) + ShiftMix(y) * k0 + z,
             Mix(v.second, w.second, factor) + x, factor);
}

}  // namespace fingerprint

inline uint64_t Fingerprint(const char* s, size_t size) {
  if (size <= 16) return fingerprint::OfAtMost16(s, size);
  if (size <= 32) return fingerprint::OfAtMost32(s, size);
  if (size <= 64) return fingerprint::OfAtMost64(s, size);
  return fingerprint::OfMore(s, size);
}

}  // namespace tfps

#endif  // OPS_CORE_FINGERPRINT_H_
