// One of the optimizers for vectors of one length, chosen when the table is made.
//
// The step is compiled for each optimizer and each common length, so that the compiler vectorises
// its loops. A step is one call through a function pointer that was chosen beforehand.
#ifndef OPS_CORE_OPTIMIZER_H_
#define OPS_CORE_OPTIMIZER_H_

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
        step_(std::visit([=](const auto& chosen) { return StepFor(chosen, dim); }, chosen_)) {}

  int StateFloats() const {
    return std::visit([this](const auto& chosen) { return chosen.StateFloats(dim_); }, chosen_);
  }

  void InitState(float* state) const {
    std::visit([=](const auto& chosen) { chosen.InitState(state, dim_); }, chosen_);
  }

  // Applies a finite gradient to weights and their state, which no pull reads meanwhile.
  void Step(float* w, float* state, const float* g) const { step_(*this, w, state, g); }

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
    std::get_if<Chosen>(&optimizer.chosen_)->Step(w, state, g, std::integral_constant<int, kDim>());
  }

  template <typename Chosen>
  static void StepOfAny(const Optimizer& optimizer, float* w, float* state, const float* g) {
    std::get_if<Chosen>(&optimizer.chosen_)->Step(w, state, g, optimizer.dim_);
  }

  Any chosen_;
  int dim_;
  StepFunction step_;
};

}  // namespace tfps

#endif  // OPS_CORE_OPTIMIZER_H_
