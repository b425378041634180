// The bags of a batch: which ids belong to which slot of which example.
#ifndef OPS_CORE_BAGS_H_
#define OPS_CORE_BAGS_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

namespace tfps {

// Bag s * batch_size + b is slot s of example b and holds
// positions[row_splits[bag] : row_splits[bag + 1]].
struct Bags {
  const int32_t* positions;  // (num_ids), rows of the pulled rows, -1 for padding
  int64_t num_ids;
  const int64_t* row_splits;  // (num_slots * batch_size + 1)
  int64_t num_slots;
  int64_t batch_size;
};

namespace internal {

// Both checks work on blocks of a fixed size without branches, which the compiler vectorises.
constexpr int kBlock = 64;

// Whether one of splits[0 : n + 1] is less than the one before it.
inline bool Decreases(const int64_t* splits, int64_t n) {
  uint64_t decreases = 0;  // The highest bit; no split is negative as the first is 0.
  int64_t begin = 0;
  for (; begin + kBlock <= n; begin += kBlock) {
    for (int i = 0; i < kBlock; ++i) {
      decreases |= static_cast<uint64_t>(splits[begin + i + 1]) - splits[begin + i];
      decreases |= splits[begin + i + 1];
    }
  }
  for (int64_t i = begin; i < n; ++i) {
    decreases |= static_cast<uint64_t>(splits[i + 1]) - splits[i];
    decreases |= splits[i + 1];
  }
  return decreases >> 63;
}

// Whether one of n positions is neither -1 nor in [0, num_rows).
inline bool Outside(const int32_t* positions, int64_t n, int32_t num_rows) {
  const uint32_t last = static_cast<uint32_t>(num_rows) - 1;
  uint32_t outside = 0;  // The highest bit.
  int64_t begin = 0;
  for (; begin + kBlock <= n; begin += kBlock) {
    for (int i = 0; i < kBlock; ++i) {
      const uint32_t position = static_cast<uint32_t>(positions[begin + i]);
      outside |= (position + 1) | (last - position);
    }
  }
  for (int64_t i = begin; i < n; ++i) {
    const uint32_t position = static_cast<uint32_t>(positions[i]);
    outside |= (position + 1) | (last - position);
  }
  return outside >> 31;
}

}  // namespace internal

// Returns one sentence that says what is wrong with `bags` over `num_rows` pulled rows; empty if
// they are right.
inline std::string CheckBags(const Bags& bags, int64_t num_rows) {
  const int64_t num_bags = bags.num_slots * bags.batch_size;
  if (bags.row_splits[0] != 0 || bags.row_splits[num_bags] != bags.num_ids) {
    return "row_splits must run from 0 to the number of positions, " +
           std::to_string(bags.num_ids) + ", not from " + std::to_string(bags.row_splits[0]) +
           " to " + std::to_string(bags.row_splits[num_bags]) + ".";
  }
  if (internal::Decreases(bags.row_splits, num_bags)) return "row_splits must not decrease.";
  num_rows = std::min<int64_t>(num_rows, std::numeric_limits<int32_t>::max());
  if (internal::Outside(bags.positions, bags.num_ids, static_cast<int32_t>(num_rows))) {
    const auto range = std::minmax_element(bags.positions, bags.positions + bags.num_ids);
    return "positions must be -1 or in [0, " + std::to_string(num_rows) +
           "), the number of rows, but they reach from " + std::to_string(*range.first) + " to " +
           std::to_string(*range.second) + ".";
  }
  return "";
}

}  // namespace tfps

#endif  // OPS_CORE_BAGS_H_
