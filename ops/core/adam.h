// Adam (Kingma & Ba 2015, Algorithm 1): epsilon is outside the square root.
//   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   w -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
// t counts the steps of this row. State: m[dim], v[dim], beta1^t, beta2^t; the powers start at 1.
#ifndef OPS_CORE_ADAM_H_
#define OPS_CORE_ADAM_H_

#include <algorithm>
#include <cmath>

#include "ops/core/optimizer_options.h"
#include "ops/core/weight_range.h"

namespace tfps {

class Adam {
 public:
  explicit Adam(const OptimizerOptions& options)
      : learning_rate_(static_cast<float>(options.learning_rate)),
        beta1_(static_cast<float>(options.beta1)),
        beta2_(static_cast<float>(options.beta2)),
        epsilon_(static_cast<float>(options.epsilon)),
        range_(options) {}

  static int StateFloats(int dim) { return 2 * dim + 2; }

  void InitState(float* state, int dim) const {
    std::fill_n(state, 2 * dim, 0.0f);
    state[2 * dim] = state[2 * dim + 1] = 1.0f;
  }

  template <typename Dim>
  void Step(float* __restrict w, float* __restrict state, const float* __restrict g,
            Dim dim) const {
    float* m = state;
    float* v = state + dim;
    float* powers = state + 2 * dim;
    powers[0] *= beta1_;
    powers[1] *= beta2_;
    const float m_correction = 1.0f - powers[0];
    const float v_correction = 1.0f - powers[1];
    for (int d = 0; d < dim; ++d) {
      m[d] = beta1_ * m[d] + (1.0f - beta1_) * g[d];
      v[d] = beta2_ * v[d] + (1.0f - beta2_) * g[d] * g[d];
      const float step = m[d] / m_correction / (std::sqrt(v[d] / v_correction) + epsilon_);
      w[d] = range_.Clip(w[d] - learning_rate_ * step);
    }
  }

 private:
  float learning_rate_;
  float beta1_;
  float beta2_;
  float epsilon_;
  WeightRange range_;
};

}  // namespace tfps

#endif  // OPS_CORE_ADAM_H_
