// One of the optimizers for vectors of one length, chosen when the table is made.
//
// The step is compiled for each optimizer and each common length, so that the compiler vectorises
// its loops. A step is one call through a function pointer that was chosen beforehand.
#ifndef OPS_CORE_OPTIMIZER_H_
#define OPS_CORE_OPTIMIZER_H_

#include <algorithm>
#include <type_traits>
#include <variant>

#include "ops/core/optimizer_options.h"
#include "ops/core/optimizers.h"
#include "ops/core/row.h"

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

  // Applies a finite gradient to the weights of a row, which are written as StoreWeights does.
  // `scratch` has room for as many floats as there are weights.
  void Step(float* w, float* state, const float* g, float* scratch) const {
    step_(*this, w, state, g, scratch);
  }

 private:
  using Any = std::variant<Sgd, Adagrad, StdAdagrad, Adam, Ftrl>;
  using StepFunction = void (*)(const Optimizer& optimizer, float* w, float* state, const float* g,
                                float* scratch);

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
  static void StepOf(const Optimizer& optimizer, float* w, float* state, const float* g, float*) {
    float stepped[kDim];
    std::copy_n(w, kDim, stepped);
    std::get_if<Chosen>(&optimizer.chosen_)
        ->Step(stepped, state, g, std::integral_constant<int, kDim>());
    StoreWeights(stepped, kDim, w);
  }

  template <typename Chosen>
  static void StepOfAny(const Optimizer& optimizer, float* w, float* state, const float* g,
                        float* scratch) {
    std::copy_n(w, optimizer.dim_, scratch);
    std::get_if<Chosen>(&optimizer.chosen_)->Step(scratch, state, g, optimizer.dim_);
    StoreWeights(scratch, optimizer.dim_, w);
  }

  Any chosen_;
  int dim_;
  StepFunction step_;
};

}  // namespace tfps

#endif  // OPS_CORE_OPTIMIZER_H_
