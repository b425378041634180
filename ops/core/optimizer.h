// One of the optimizers for vectors of one length, chosen when the table is made.
//
// The step is compiled for each optimizer and each common length, so that the compiler vectorises
// its loops. A step is one call through a function pointer that was chosen beforehand.
#ifndef OPS_CORE_OPTIMIZER_H_
#define OPS_CORE_OPTIMIZER_H_

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>
#include <variant>

#include "ops/core/optimizer_options.h"
#include "ops/core/optimizers.h"

namespace tfps {

class Optimizer {
 public:
  Optimizer(const OptimizerOptions& options, int dim)
      : chosen_(Choose(options)),
        dim_(dim),
        step_(std::visit([=](const auto& chosen) { return StepFor(chosen, dim); }, chosen_)),
        l2_(options.kind == OptimizerKind::kFtrl ? 0 : static_cast<float>(options.l2)),
        clipnorm_(options.clipnorm),
        clipvalue_(static_cast<float>(options.clipvalue)),
        rate_(static_cast<float>(options.learning_rate)),
        factor_(1),
        effective_rate_(rate_) {}
  Optimizer(const Optimizer& from)
      : chosen_(from.chosen_),
        dim_(from.dim_),
        step_(from.step_),
        l2_(from.l2_),
        clipnorm_(from.clipnorm_),
        clipvalue_(from.clipvalue_),
        rate_(from.rate_),
        factor_(from.factor_),
        effective_rate_(from.rate_ * from.factor_) {}

  int StateFloats() const {
    return std::visit([this](const auto& chosen) { return chosen.StateFloats(dim_); }, chosen_);
  }

  void InitState(float* state) const {
    std::visit([=](const auto& chosen) { chosen.InitState(state, dim_); }, chosen_);
  }

  // Sets the learning rate, for steps from now on. Ftrl keeps its alpha: its weights follow from
  // all gradients at one alpha.
  void SetRate(float rate) {
    rate_ = rate;
    effective_rate_.store(rate_ * factor_, std::memory_order_relaxed);
  }

  // Sets what the learning rate is multiplied by. Neither is to be called by two threads at once.
  void SetFactor(float factor) {
    factor_ = factor;
    effective_rate_.store(rate_ * factor_, std::memory_order_relaxed);
  }

  // Applies a finite gradient to weights and their state, which no pull reads meanwhile.
  void Step(float* w, float* state, const float* g) const {
    if (l2_ == 0 && clipnorm_ == 0 && clipvalue_ == 0) {
      step_(*this, w, state, g);
      return;
    }
    float own[kMostDim];
    for (int d = 0; d < dim_; ++d) own[d] = g[d] + l2_ * w[d];
    if (clipnorm_ != 0 || clipvalue_ != 0) Clip(own);
    step_(*this, w, state, own);
  }

  static constexpr int kMostDim = 4096;

 private:
  using Any = std::variant<Sgd, Adagrad, StdAdagrad, Adam, Ftrl>;
  using StepFunction = void (*)(const Optimizer& optimizer, float* w, float* state, const float* g);

  static Any Choose(const OptimizerOptions& options) {
    switch (options.kind) {
      case OptimizerKind::kSgd: return Sgd(options);
      case OptimizerKind::kAdagrad: return Adagrad(options);
      case OptimizerKind::kStdAdagrad: return StdAdagrad(options);
      case OptimizerKind::kAdam: return Adam(options);
      case OptimizerKind::kFtrl: return Ftrl(options);
    }
    return Adagrad(options);
  }

  // As Keras clips: by norm, or else by value.
  void Clip(float* g) const {
    if (clipnorm_ == 0) {
      for (int d = 0; d < dim_; ++d) g[d] = std::clamp(g[d], -clipvalue_, clipvalue_);
      return;
    }
    double squares = 0;
    for (int d = 0; d < dim_; ++d) squares += static_cast<double>(g[d]) * g[d];
    const double norm = std::sqrt(squares);
    const double scale = norm > clipnorm_ ? clipnorm_ / norm : 1;
    for (int d = 0; d < dim_; ++d) g[d] = static_cast<float>(g[d] * scale);
  }

  template <typename Chosen>
  static StepFunction StepFor(const Chosen&, int dim) {
    switch (dim) {
      case 1: return StepOf<Chosen, 1>;
      case 8: return StepOf<Chosen, 8>;
      case 16: return StepOf<Chosen, 16>;
      case 32: return StepOf<Chosen, 32>;
      case 64: return StepOf<Chosen, 64>;
      default: return StepOfAny<Chosen>;
    }
  }

  template <typename Chosen, int kDim>
  static void StepOf(const Optimizer& optimizer, float* w, float* state, const float* g) {
    std::get_if<Chosen>(&optimizer.chosen_)
        ->Step(optimizer.effective_rate(), w, state, g, std::integral_constant<int, kDim>());
  }

  template <typename Chosen>
  static void StepOfAny(const Optimizer& optimizer, float* w, float* state, const float* g) {
    std::get_if<Chosen>(&optimizer.chosen_)
        ->Step(optimizer.effective_rate(), w, state, g, optimizer.dim_);
  }

  float effective_rate() const { return effective_rate_.load(std::memory_order_relaxed); }

  Any chosen_;
  int dim_;
  StepFunction step_;
  float l2_;
  double clipnorm_;
  float clipvalue_;
  float rate_;
  float factor_;
  std::atomic<float> effective_rate_;
};

}  // namespace tfps

#endif  // OPS_CORE_OPTIMIZER_H_
