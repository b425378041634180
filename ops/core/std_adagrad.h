// Adagrad with one accumulator per dimension (Duchi, Hazan, Singer 2011, scaled as in adagrad.h).
//   w -= lr * g * sqrt(g2_0 / (g2_0 + g2sum));  g2sum += g^2
// State: g2sum[dim].
#ifndef OPS_CORE_STD_ADAGRAD_H_
#define OPS_CORE_STD_ADAGRAD_H_

#include <algorithm>
#include <cmath>

#include "ops/core/optimizer_options.h"
#include "ops/core/weight_range.h"

namespace tfps {

class StdAdagrad {
 public:
  explicit StdAdagrad(const OptimizerOptions& options)
      : learning_rate_(static_cast<float>(options.learning_rate)),
        initial_g2sum_(static_cast<float>(options.initial_g2sum)),
        range_(options) {}

  static int StateFloats(int dim) { return dim; }
  void InitState(float* state, int dim) const { std::fill_n(state, dim, 0.0f); }

  template <typename Dim>
  void Step(float* __restrict w, float* __restrict state, const float* __restrict g,
            Dim dim) const {
    for (int d = 0; d < dim; ++d) {
      const float scale = std::sqrt(initial_g2sum_ / (initial_g2sum_ + state[d]));
      w[d] = range_.Clip(w[d] - learning_rate_ * g[d] * scale);
      state[d] += g[d] * g[d];
    }
  }

 private:
  float learning_rate_;
  float initial_g2sum_;
  WeightRange range_;
};

}  // namespace tfps

#endif  // OPS_CORE_STD_ADAGRAD_H_
