// The range that every weight is kept in after each step.
#ifndef OPS_CORE_WEIGHT_RANGE_H_
#define OPS_CORE_WEIGHT_RANGE_H_

#include <algorithm>

#include "ops/core/optimizer_options.h"

namespace tfps {

class WeightRange {
 public:
  explicit WeightRange(const OptimizerOptions& options)
      : min_(static_cast<float>(options.weight_min)),
        max_(static_cast<float>(options.weight_max)) {}

  float Clip(float weight) const { return std::min(std::max(weight, min_), max_); }

 private:
  float min_, max_;
};

}  // namespace tfps

#endif  // OPS_CORE_WEIGHT_RANGE_H_
