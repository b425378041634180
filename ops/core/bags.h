// The bags of a batch: which ids belong to which slot of which example.
#ifndef OPS_CORE_BAGS_H_
#define OPS_CORE_BAGS_H_

#include <cstdint>
#include <string>

namespace tfps {

// Bag s * batch_size + b is slot s of example b and holds
// positions[row_splits[bag] : row_splits[bag + 1]].
struct Bags {
  const int32_t* positions;   // (num_ids), rows of the pulled rows, -1 for padding
  int64_t num_ids;
  const int64_t* row_splits;  // (num_slots * batch_size + 1)
  int64_t num_slots;
  int64_t batch_size;
};

// What is wrong with `bags` over `num_rows` pulled rows, in one sentence; empty if nothing.
inline std::string CheckBags(const Bags& bags, int64_t num_rows) {
  const int64_t num_bags = bags.num_slots * bags.batch_size;
  if (bags.row_splits[0] != 0 || bags.row_splits[num_bags] != bags.num_ids) {
    return "row_splits must run from 0 to the number of positions, " +
           std::to_string(bags.num_ids) + ", not from " + std::to_string(bags.row_splits[0]) +
           " to " + std::to_string(bags.row_splits[num_bags]) + ".";
  }
  bool decreases = false;
  for (int64_t i = 0; i < num_bags; ++i) decreases |= bags.row_splits[i] > bags.row_splits[i + 1];
  if (decreases) return "row_splits must not decrease.";
  int32_t lowest = -1, highest = -1;
  for (int64_t i = 0; i < bags.num_ids; ++i) {
    lowest = bags.positions[i] < lowest ? bags.positions[i] : lowest;
    highest = bags.positions[i] > highest ? bags.positions[i] : highest;
  }
  if (lowest < -1 || highest >= num_rows) {
    return "positions must be -1 or in [0, " + std::to_string(num_rows) +
           "), the number of rows, but they reach from " + std::to_string(lowest) + " to " +
           std::to_string(highest) + ".";
  }
  return "";
}

}  // namespace tfps

#endif  // OPS_CORE_BAGS_H_
