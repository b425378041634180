#include "ops/core/wire_floats.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "ops/tests/check.h"

namespace tfps {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr WireDtype kShort[] = {WireDtype::kBfloat16, WireDtype::kFloat16};

float Largest(WireDtype dtype) { return dtype == WireDtype::kFloat16 ? 65504.0f : 0x1.fep127f; }

std::vector<float> Nearest(const std::vector<float>& values, WireDtype dtype) {
  std::vector<char> wire(values.size() * WireBytes(dtype));
  RoundToNearest(values.data(), values.size(), dtype, wire.data());
  std::vector<float> read(values.size());
  ReadWire(wire.data(), values.size(), dtype, read.data());
  return read;
}

std::vector<float> AtRandom(const std::vector<float>& values, float scale, uint64_t seed,
                            WireDtype dtype) {
  std::vector<char> wire(values.size() * WireBytes(dtype));
  RoundAtRandom(values.data(), values.size(), scale, seed, dtype, wire.data());
  std::vector<float> read(values.size());
  ReadWire(wire.data(), values.size(), dtype, read.data());
  return read;
}

// All finite values of a format that are not negative, in their order.
std::vector<float> AllValues(WireDtype dtype) {
  const int count = dtype == WireDtype::kFloat16 ? 0x7c00 : 0x7f80;
  std::vector<uint16_t> wire(count);
  for (int i = 0; i < count; ++i) wire[i] = static_cast<uint16_t>(i);
  std::vector<float> values(count);
  ReadWire(reinterpret_cast<const char*>(wire.data()), count, dtype, values.data());
  return values;
}

}  // namespace

TEST(EveryValueOfAFormatComesBack) {
  for (const WireDtype dtype : kShort) {
    const std::vector<float> values = AllValues(dtype);
    std::vector<float> all = values;
    for (const float value : values) all.push_back(-value);
    for (size_t i = 1; i < values.size(); ++i) CHECK_LT(values[i - 1], values[i]);
    CHECK_EQ(values.back(), Largest(dtype));
    for (const auto& read : {Nearest(all, dtype), AtRandom(all, 1, 7, dtype)}) {
      CHECK_EQ(std::memcmp(read.data(), all.data(), 4 * all.size()), 0);
    }
  }
  const std::vector<float> half = AllValues(WireDtype::kFloat16);
  CHECK_EQ(half[1], 0x1p-24f);
  CHECK_EQ(half[0x400], 0x1p-14f);
  CHECK_EQ(half[0x3c00], 1.0f);
  CHECK_EQ(AllValues(WireDtype::kBfloat16)[0x3f80], 1.0f);
}

TEST(NearestIsNearestAndTiesGoToEven) {
  for (const WireDtype dtype : kShort) {
    const std::vector<float> values = AllValues(dtype);
    std::vector<float> below, between, above;
    for (size_t i = 0; i + 1 < values.size(); ++i) {
      const float middle = values[i] + (values[i + 1] - values[i]) / 2;  // exact
      between.push_back(middle);
      below.push_back(std::nextafter(middle, 0.0f));
      above.push_back(std::nextafter(middle, kInfinity));
    }
    const auto read_below = Nearest(below, dtype), read = Nearest(between, dtype),
               read_above = Nearest(above, dtype);
    for (size_t i = 0; i < between.size(); ++i) {
      CHECK_EQ(read_below[i], values[i]);
      CHECK_EQ(read[i], values[i + i % 2]);
      CHECK_EQ(read_above[i], values[i + 1]);
    }
  }
}

TEST(WhatIsTooLargeBecomesTheLargestAndNoNumberStaysNone) {
  const float most = std::numeric_limits<float>::max();
  const std::vector<float> values = {most,  -most, kInfinity, -kInfinity, kNaN,
                                     -kNaN, 65519, 65520,     -1e6f};
  for (const WireDtype dtype : kShort) {
    for (const auto& read :
         {Nearest(values, dtype), AtRandom(values, 1, 3, dtype), AtRandom(values, 1, 4, dtype)}) {
      CHECK_EQ(read[0], Largest(dtype));
      CHECK_EQ(read[1], -Largest(dtype));
      CHECK_EQ(read[2], kInfinity);
      CHECK_EQ(read[3], -kInfinity);
      CHECK_TRUE(std::isnan(read[4]));
      CHECK_TRUE(std::isnan(read[5]));
      if (dtype == WireDtype::kBfloat16) continue;
      CHECK_EQ(read[6], 65504.0f);
      CHECK_EQ(read[7], 65504.0f);
      CHECK_EQ(read[8], -65504.0f);
    }
  }
}

TEST(RoundingAtRandomIsUnbiasedAndGoesToNeighbours) {
  constexpr int kSeeds = 20000;
  for (const WireDtype dtype : kShort) {
    const std::vector<float> all = AllValues(dtype);
    std::mt19937 random(1);
    std::vector<float> values, low, high;
    for (int i = 0; i < 75; ++i) {  // more than a block of them
      // Of half, also of its smallest; the first value is below all of them.
      const size_t at = i == 0                                  ? 0
                        : dtype == WireDtype::kFloat16 && i % 2 ? random() % 0x400
                                                                : 0x200 + random() % 0x7000;
      const float part = (1 + random() % 1023) / 1024.0f;
      low.push_back(all[at]);
      high.push_back(all[at + 1]);
      values.push_back(all[at] + part * (all[at + 1] - all[at]));
      if (i % 3 == 0) {
        values.back() = -values.back();
        std::swap(low.back(), high.back());
        low.back() = -low.back();
        high.back() = -high.back();
      }
    }
    std::vector<double> sums(values.size());
    for (int seed = 0; seed < kSeeds; ++seed) {
      const auto read = AtRandom(values, 1, seed * 0x9e3779b97f4a7c15u, dtype);
      for (size_t i = 0; i < values.size(); ++i) {
        if (read[i] != low[i]) CHECK_EQ(read[i], high[i]);
        sums[i] += (read[i] - low[i]) / (double{high[i]} - low[i]);
      }
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const double share = (double{values[i]} - low[i]) / (double{high[i]} - low[i]);
      // Five standard deviations of a mean of coin tosses.
      CHECK_NEAR(sums[i] / kSeeds, share, 5 * 0.5 / std::sqrt(kSeeds));
    }
  }
}

TEST(RoundingAtRandomDependsOnSeedAndPositionAlone) {
  std::vector<float> values(1000, 1.0034f);
  for (const WireDtype dtype : kShort) {
    const auto read = AtRandom(values, 1, 5, dtype);
    CHECK_TRUE(read == AtRandom(values, 1, 5, dtype));
    CHECK_FALSE(read == AtRandom(values, 1, 6, dtype));
    const std::vector<float> few(values.begin(), values.begin() + 333);
    const auto read_few = AtRandom(few, 1, 5, dtype);
    CHECK_TRUE(std::equal(read_few.begin(), read_few.end(), read.begin()));
    int ups = 0;
    for (const float value : read) ups += value > 1.0034f;
    CHECK_GT(ups, 100);
    CHECK_LT(ups, 900);
  }
}

TEST(GradientsAreScaled) {
  std::vector<float> values(100);
  for (int i = 0; i < 100; ++i) values[i] = 0.25f * (i - 50);
  for (const WireDtype dtype : {WireDtype::kFloat32, WireDtype::kBfloat16, WireDtype::kFloat16}) {
    const auto read = AtRandom(values, 4, 1, dtype);
    for (int i = 0; i < 100; ++i) CHECK_EQ(read[i], i - 50.0f);
  }
  const std::vector<float> odd = {0.1f, kInfinity, kNaN};
  const auto read = AtRandom(odd, 3, 1, WireDtype::kFloat32);
  CHECK_EQ(read[0], 0.1f * 3);
  CHECK_EQ(read[1], kInfinity);
  CHECK_TRUE(std::isnan(read[2]));
}

}  // namespace tfps
