// The optimizers, one class each.
//
// All have the same three members: StateFloats(dim), how many floats of state a vector of `dim`
// weights has; InitState(state, dim); and Step(rate, w, state, g, dim), which applies one finite
// gradient with this learning rate and keeps the weights in their range. Ftrl has its own.
#ifndef OPS_CORE_OPTIMIZERS_H_
#define OPS_CORE_OPTIMIZERS_H_

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/core/optimizer_options.h"

namespace tfps {

// The range that every weight is kept in after each step.
class WeightRange {
 public:
  explicit WeightRange(const OptimizerOptions& options)
      : min_(static_cast<float>(options.weight_min)),
        max_(static_cast<float>(options.weight_max)) {}

  float Clip(float weight) const { return std::min(std::max(weight, min_), max_); }

 private:
  float min_, max_;
};

// Plain gradient descent: w -= lr * g. No state.
class Sgd {
 public:
  explicit Sgd(const OptimizerOptions& options) : range_(options) {}

  static int StateFloats(int /*dim*/) { return 0; }
  void InitState(float* /*state*/, int /*dim*/) const {}

  template <typename Dim>
  void Step(float rate, float* __restrict w, float* __restrict /*state*/, const float* __restrict g,
            Dim dim) const {
    for (int d = 0; d < dim; ++d) w[d] = range_.Clip(w[d] - rate * g[d]);
  }

 private:
  WeightRange range_;
};

// Adagrad with one accumulator for the whole vector, as PaddlePaddle's sparse adagrad: the step of
// a feasign that was seen little is close to lr * g, whatever its dimension.
//   w -= lr * g * sqrt(g2_0 / (g2_0 + g2sum));  g2sum += mean(g^2)
// State: g2sum.
class Adagrad {
 public:
  explicit Adagrad(const OptimizerOptions& options)
      : initial_g2sum_(static_cast<float>(options.initial_g2sum)), range_(options) {}

  static int StateFloats(int /*dim*/) { return 1; }
  void InitState(float* state, int /*dim*/) const { state[0] = 0; }

  template <typename Dim>
  void Step(float rate, float* __restrict w, float* __restrict state, const float* __restrict g,
            Dim dim) const {
    const float step = rate * std::sqrt(initial_g2sum_ / (initial_g2sum_ + state[0]));
    float squares = 0;
    for (int d = 0; d < dim; ++d) squares += g[d] * g[d];
    for (int d = 0; d < dim; ++d) w[d] = range_.Clip(w[d] - step * g[d]);
    state[0] += squares / static_cast<float>(dim);
  }

 private:
  float initial_g2sum_;
  WeightRange range_;
};

// Adagrad with one accumulator per dimension (Duchi, Hazan, Singer 2011, scaled as Adagrad is).
//   w -= lr * g * sqrt(g2_0 / (g2_0 + g2sum));  g2sum += g^2
// State: g2sum[dim].
class StdAdagrad {
 public:
  explicit StdAdagrad(const OptimizerOptions& options)
      : initial_g2sum_(static_cast<float>(options.initial_g2sum)), range_(options) {}

  static int StateFloats(int dim) { return dim; }
  void InitState(float* state, int dim) const { std::fill_n(state, dim, 0.0f); }

  template <typename Dim>
  void Step(float rate, float* __restrict w, float* __restrict state, const float* __restrict g,
            Dim dim) const {
    for (int d = 0; d < dim; ++d) {
      const float scale = std::sqrt(initial_g2sum_ / (initial_g2sum_ + state[d]));
      w[d] = range_.Clip(w[d] - rate * g[d] * scale);
      state[d] += g[d] * g[d];
    }
  }

 private:
  float initial_g2sum_;
  WeightRange range_;
};

// Adam (Kingma & Ba 2015, Algorithm 1): epsilon is outside the square root.
//   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   w -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
// t counts the steps of this row. State: m[dim], v[dim], beta1^t, beta2^t; the powers start at 1.
class Adam {
 public:
  explicit Adam(const OptimizerOptions& options)
      : beta1_(static_cast<float>(options.beta1)),
        beta2_(static_cast<float>(options.beta2)),
        epsilon_(static_cast<float>(options.epsilon)),
        range_(options) {}

  static int StateFloats(int dim) { return 2 * dim + 2; }

  void InitState(float* state, int dim) const {
    float* const powers = std::fill_n(state, 2 * dim, 0.0f);
    powers[0] = powers[1] = 1.0f;
  }

  template <typename Dim>
  void Step(float rate, float* __restrict w, float* __restrict state, const float* __restrict g,
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
      w[d] = range_.Clip(w[d] - rate * step);
    }
  }

 private:
  float beta1_;
  float beta2_;
  float epsilon_;
  WeightRange range_;
};

// FTRL-Proximal (McMahan et al. 2013, "Ad Click Prediction: a View from the Trenches", Algorithm
// 1).
//   sigma = (sqrt(n + g^2) - sqrt(n)) / alpha;  z += g - sigma * w;  n += g^2
//   w = 0 if |z| <= l1, else -(z - sign(z) * l1) / ((beta + sqrt(n)) / alpha + l2)
// State: z[dim], n[dim]. Steps are taken in float64, and the state stays finite for any finite
// gradient.
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
  void Step(float /*rate*/, float* __restrict w, float* __restrict state, const float* __restrict g,
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

#endif  // OPS_CORE_OPTIMIZERS_H_
