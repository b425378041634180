// How the core gets threads: the caller passes a function that runs loops on them.
#ifndef OPS_CORE_PARALLEL_H_
#define OPS_CORE_PARALLEL_H_

#include <cstdint>
#include <functional>

namespace tfps {

// Calls work(begin, end) on disjoint ranges that cover [0, total), perhaps at the same time, and
// returns when all are done. One unit costs about `cost_per_unit` cycles.
using ParallelFor = std::function<void(int64_t total, int64_t cost_per_unit,
                                       std::function<void(int64_t begin, int64_t end)> work)>;

// Runs the whole loop on the calling thread.
inline void SerialFor(int64_t total, int64_t, const std::function<void(int64_t, int64_t)>& work) {
  if (total > 0) work(0, total);
}

}  // namespace tfps

#endif  // OPS_CORE_PARALLEL_H_
