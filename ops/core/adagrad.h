// Adagrad with one accumulator for the whole vector, as PaddlePaddle's sparse adagrad: the step of
// a feasign that was seen little is close to lr * g, whatever its dimension.
//   w -= lr * g * sqrt(g2_0 / (g2_0 + g2sum));  g2sum += mean(g^2)
// State: g2sum.
#ifndef OPS_CORE_ADAGRAD_H_
#define OPS_CORE_ADAGRAD_H_

#include <cmath>

#include "ops/core/optimizer_options.h"
#include "ops/core/weight_range.h"

namespace tfps {

class Adagrad {
 public:
  explicit Adagrad(const OptimizerOptions& options)
      : learning_rate_(static_cast<float>(options.learning_rate)),
        initial_g2sum_(static_cast<float>(options.initial_g2sum)),
        range_(options) {}

  static int StateFloats(int /*dim*/) { return 1; }
  void InitState(float* state, int /*dim*/) const { state[0] = 0; }

  template <typename Dim>
  void Step(float* __restrict w, float* __restrict state, const float* __restrict g,
            Dim dim) const {
    const float rate = learning_rate_ * std::sqrt(initial_g2sum_ / (initial_g2sum_ + state[0]));
    float squares = 0;
    for (int d = 0; d < dim; ++d) squares += g[d] * g[d];
    for (int d = 0; d < dim; ++d) w[d] = range_.Clip(w[d] - rate * g[d]);
    state[0] += squares / static_cast<float>(dim);
  }

 private:
  float learning_rate_;
  float initial_g2sum_;
  WeightRange range_;
};

}  // namespace tfps

#endif  // OPS_CORE_ADAGRAD_H_
