// FTRL-Proximal (McMahan et al. 2013, "Ad Click Prediction: a View from the Trenches", Algorithm
// 1).
//   sigma = (sqrt(n + g^2) - sqrt(n)) / alpha;  z += g - sigma * w;  n += g^2
//   w = 0 if |z| <= l1, else -(z - sign(z) * l1) / ((beta + sqrt(n)) / alpha + l2)
// State: z[dim], n[dim]. Steps are taken in float64, and the state stays finite for any finite
// gradient.
#ifndef OPS_CORE_FTRL_H_
#define OPS_CORE_FTRL_H_

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/core/optimizer_options.h"
#include "ops/core/weight_range.h"

namespace tfps {

class Ftrl {
 public:
  explicit Ftrl(const OptimizerOptions& options)
      : alpha_(options.alpha),
        beta_(options.beta),
        l1_(options.l1),
        l2_(options.l2),
        range_(options) {}

  static int StateFloats(int dim) { return 2 * dim; }
  void InitState(float* state, int dim) const { std::fill_n(state, 2 * dim, 0.0f); }

  template <typename Dim>
  void Step(float* __restrict w, float* __restrict state, const float* __restrict g,
            Dim dim) const {
    for (int d = 0; d < dim; ++d) StepOne(&w[d], &state[d], &state[dim + d], g[d]);
  }

 private:
  static float ToFloat(double value) {
    constexpr double kLargest = std::numeric_limits<float>::max();
    return static_cast<float>(std::min(std::max(value, -kLargest), kLargest));
  }

  void StepOne(float* w, float* z, float* n, double g) const {
    const double old_root = std::sqrt(static_cast<double>(*n));
    const double new_root = std::sqrt(*n + g * g);
    const double sigma = (new_root - old_root) / alpha_;
    const double new_z = *z + g - sigma * *w;
    double new_w = 0;
    if (std::fabs(new_z) > l1_) {
      new_w = -(new_z - std::copysign(l1_, new_z)) / ((beta_ + new_root) / alpha_ + l2_);
    }
    *w = range_.Clip(ToFloat(new_w));
    *z = ToFloat(new_z);
    *n = ToFloat(*n + g * g);
  }

  double alpha_, beta_, l1_, l2_;
  WeightRange range_;
};

}  // namespace tfps

#endif  // OPS_CORE_FTRL_H_
