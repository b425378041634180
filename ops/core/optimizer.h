// One of the optimizers, chosen when the table is made.
//
// Each of them has the same three members: StateFloats(dim), how many floats of state a vector of
// `dim` weights has; InitState(state, dim); and Step(w, state, g, dim), which applies one finite
// gradient and clips. The choice is a switch per step, which the processor predicts, and the loops
// inside are inlined.
#ifndef OPS_CORE_OPTIMIZER_H_
#define OPS_CORE_OPTIMIZER_H_

#include <variant>

#include "ops/core/adagrad.h"
#include "ops/core/adam.h"
#include "ops/core/ftrl.h"
#include "ops/core/optimizer_options.h"
#include "ops/core/sgd.h"
#include "ops/core/std_adagrad.h"

namespace tfps {

class Optimizer {
 public:
  explicit Optimizer(const OptimizerOptions& options) : chosen_(Choose(options)) {}

  int StateFloats(int dim) const {
    return std::visit([=](const auto& chosen) { return chosen.StateFloats(dim); }, chosen_);
  }

  void InitState(float* state, int dim) const {
    std::visit([=](const auto& chosen) { chosen.InitState(state, dim); }, chosen_);
  }

  void Step(float* w, float* state, const float* g, int dim) const {
    std::visit([=](const auto& chosen) { chosen.Step(w, state, g, dim); }, chosen_);
  }

 private:
  using Any = std::variant<Sgd, Adagrad, StdAdagrad, Adam, Ftrl>;

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

  Any chosen_;
};

}  // namespace tfps

#endif  // OPS_CORE_OPTIMIZER_H_
