// Whether floating-point numbers are finite, read from their bits.
#ifndef OPS_CORE_FINITE_H_
#define OPS_CORE_FINITE_H_

#include <cstdint>
#include <cstring>

namespace tfps {

// Calls visit(i) for i from 0 to n - 1, in blocks of eight, which the compiler vectorises.
template <typename Visit>
[[gnu::always_inline]] inline void ForEachFloat(int64_t n, Visit visit) {
  int64_t begin = 0;
  for (; begin + 8 <= n; begin += 8) {
    for (int i = 0; i < 8; ++i) visit(begin + i);
  }
  for (; begin < n; ++begin) visit(begin);
}

// Whether is_good(bits) holds for the bits, a `Bits`, of each of n numbers.
template <typename Bits, typename IsGood>
[[gnu::always_inline]] inline bool All(const void* values, int64_t n, IsGood is_good) {
  const char* const bytes = static_cast<const char*>(values);
  Bits bad = 0;
  ForEachFloat(n, [&](int64_t i) {
    Bits bits;
    std::memcpy(&bits, bytes + i * sizeof(bits), sizeof(bits));
    bad |= static_cast<Bits>(!is_good(bits));
  });
  return bad == 0;
}

// Of numbers with the bits of `Bits`: `exponent` are those that are all set where one is not
// finite.
template <typename Bits>
inline bool AllFinite(const void* values, int64_t n, Bits exponent) {
  return All<Bits>(values, n, [=](Bits bits) { return (bits & exponent) != exponent; });
}

// Likewise, whether all exponents are below `bound`.
template <typename Bits>
inline bool AllBelow(const void* values, int64_t n, Bits exponent, Bits bound) {
  return All<Bits>(values, n, [=](Bits bits) { return (bits & exponent) < bound; });
}

inline bool AllFinite(const float* values, int64_t n) {
  return AllFinite<uint32_t>(values, n, 0x7f800000);
}

}  // namespace tfps

#endif  // OPS_CORE_FINITE_H_
