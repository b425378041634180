// The tags of a bucket: 16 bytes that are compared with one tag at once.
#ifndef OPS_CORE_TAGS_H_
#define OPS_CORE_TAGS_H_

#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace tfps {

// For any processor: a bit for each byte of low and high that equals `tag`.
inline uint32_t MatchesOneByOne(uint64_t low, uint64_t high, uint8_t tag) {
  uint32_t matches = 0;
  for (int i = 0; i < 8; ++i) {
    matches |= uint32_t{(low >> 8 * i & 0xff) == tag} << i;
    matches |= uint32_t{(high >> 8 * i & 0xff) == tag} << (8 + i);
  }
  return matches;
}

#if defined(__SSE2__)

class Tags {
 public:
  Tags(uint64_t low, uint64_t high)
      : bytes_(_mm_set_epi64x(static_cast<int64_t>(high), static_cast<int64_t>(low))) {}

  uint32_t Matches(uint8_t tag) const {
    return _mm_movemask_epi8(_mm_cmpeq_epi8(bytes_, _mm_set1_epi8(static_cast<char>(tag))));
  }
  // The lowest bit of the last byte.
  bool LastBit() const { return _mm_extract_epi16(bytes_, 7) & 0x100; }

 private:
  __m128i bytes_;
};

#elif defined(__ARM_NEON)

class Tags {
 public:
  Tags(uint64_t low, uint64_t high)
      : bytes_(vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(low), vcreate_u64(high)))) {}

  uint32_t Matches(uint8_t tag) const {
    // Each matching byte keeps its own bit; the sum of a half has the bits of its bytes.
    const uint8x16_t bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    const uint8x16_t matches = vandq_u8(vceqq_u8(bytes_, vdupq_n_u8(tag)), bits);
    return uint32_t{vaddv_u8(vget_low_u8(matches))} | uint32_t{vaddv_u8(vget_high_u8(matches))}
                                                          << 8;
  }
  bool LastBit() const { return vgetq_lane_u8(bytes_, 15) & 1; }

 private:
  uint8x16_t bytes_;
};

#else

class Tags {
 public:
  Tags(uint64_t low, uint64_t high) : low_(low), high_(high) {}

  uint32_t Matches(uint8_t tag) const { return MatchesOneByOne(low_, high_, tag); }
  bool LastBit() const { return high_ >> 56 & 1; }

 private:
  uint64_t low_, high_;
};

#endif

}  // namespace tfps

#endif  // OPS_CORE_TAGS_H_
