// Plain gradient descent: w -= lr * g. No state.
#ifndef OPS_CORE_SGD_H_
#define OPS_CORE_SGD_H_

#include "ops/core/optimizer_options.h"
#include "ops/core/weight_range.h"

namespace tfps {

class Sgd {
 public:
  explicit Sgd(const OptimizerOptions& options)
      : learning_rate_(static_cast<float>(options.learning_rate)), range_(options) {}

  static int StateFloats(int /*dim*/) { return 0; }
  void InitState(float* /*state*/, int /*dim*/) const {}

  template <typename Dim>
  void Step(float* __restrict w, float* __restrict /*state*/, const float* __restrict g,
            Dim dim) const {
    for (int d = 0; d < dim; ++d) w[d] = range_.Clip(w[d] - learning_rate_ * g[d]);
  }

 private:
  float learning_rate_;
  WeightRange range_;
};

}  // namespace tfps

#endif  // OPS_CORE_SGD_H_
