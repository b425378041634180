// The optimizer of the lr weights or of the mf vectors, and its settings.
#ifndef OPS_CORE_OPTIMIZER_OPTIONS_H_
#define OPS_CORE_OPTIMIZER_OPTIONS_H_

namespace tfps {

enum class OptimizerKind { kSgd, kAdagrad, kStdAdagrad, kAdam, kFtrl };

// Each optimizer reads only its own settings; all clip weights to [weight_min, weight_max].
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kAdagrad;
  double learning_rate = 0.05;  // sgd, adagrad, std_adagrad, adam (there 0.001 by default)
  double initial_g2sum = 3.0;   // adagrad, std_adagrad: g2_0
  double beta1 = 0.9;           // adam
  double beta2 = 0.999;         // adam
  double epsilon = 1e-8;        // adam
  double alpha = 0.05;          // ftrl
  double beta = 1.0;            // ftrl
  double l1 = 0.0;              // ftrl
  double l2 = 0.0;              // g += l2 * w before the step; in ftrl, its own l2
  double clipnorm = 0.0;        // of a row's gradient, the lr weight's or the mf vector's; 0: none
  double clipvalue = 0.0;       // of each number of it; 0: none
  double weight_min = -10.0;
  double weight_max = 10.0;
};

constexpr double kAdamLearningRate = 0.001;

}  // namespace tfps

#endif  // OPS_CORE_OPTIMIZER_OPTIONS_H_
