#include "ops/core/optimizer.h"

#include <limits>
#include <vector>

#include "ops/tests/check.h"

namespace tfps {
namespace {

// One vector under an optimizer, from initial weights of zero.
struct Trained {
  Trained(OptimizerKind kind, int dim, OptimizerOptions options = OptimizerOptions())
      : optimizer((options.kind = kind, options), dim), w(dim), state(optimizer.StateFloats(), -1) {
    optimizer.InitState(state.data());
  }

  void Step(std::vector<float> g) { optimizer.Step(w.data(), state.data(), g.data()); }

  Optimizer optimizer;
  std::vector<float> w, state;
};

OptimizerOptions WithRate(double learning_rate) {
  OptimizerOptions options;
  options.learning_rate = learning_rate;
  return options;
}

constexpr OptimizerKind kAll[] = {OptimizerKind::kSgd, OptimizerKind::kAdagrad,
                                  OptimizerKind::kStdAdagrad, OptimizerKind::kAdam,
                                  OptimizerKind::kFtrl};

}  // namespace

TEST(StatesHaveTheirSizes) {
  const int expected[] = {0, 1, 5, 12, 10};
  for (int i = 0; i < 5; ++i) CHECK_EQ(Trained(kAll[i], 5).state.size(), size_t(expected[i]));
}

TEST(StatesStartAtZeroAndBetaPowersAtOne) {
  for (OptimizerKind kind : kAll) {
    const Trained trained(kind, 2);
    for (size_t i = 0; i < trained.state.size(); ++i) {
      CHECK_EQ(trained.state[i], kind == OptimizerKind::kAdam && i >= 4 ? 1.0f : 0.0f);
    }
  }
}

TEST(SgdFollowsTheGradient) {
  Trained trained(OptimizerKind::kSgd, 2, WithRate(0.5));
  trained.Step({1, -2});
  trained.Step({1, 0});
  CHECK_EQ(trained.w[0], -1.0f);
  CHECK_EQ(trained.w[1], 1.0f);
}

TEST(L2AddsTheWeightsToTheGradient) {
  OptimizerOptions options = WithRate(0.5);
  options.l2 = 0.25;
  Trained sgd(OptimizerKind::kSgd, 2, options);
  sgd.w = {4, -2};
  sgd.Step({1, 0});
  CHECK_EQ(sgd.w[0], 3.0f);
  CHECK_EQ(sgd.w[1], -1.75f);
}

// Ftrl has an l2 of its own.
TEST(AStepWithL2IsTheStepOfTheSumClippedAfterwards) {
  for (OptimizerKind kind : kAll) {
    if (kind == OptimizerKind::kFtrl) continue;
    for (double clipnorm : {0.0, 0.5}) {
      OptimizerOptions options = WithRate(0.5);
      options.clipnorm = clipnorm;
      Trained plain(kind, 2, options);
      options.l2 = 0.25;
      Trained regularised(kind, 2, options);
      plain.w = regularised.w = {0.5f, -1.0f};
      for (const std::vector<float>& g : {std::vector<float>{1, -0.5f}, {0, 0}, {-1, 2}}) {
        plain.Step({g[0] + 0.25f * plain.w[0], g[1] + 0.25f * plain.w[1]});
        regularised.Step(g);
        for (int d = 0; d < 2; ++d) CHECK_NEAR(regularised.w[d], plain.w[d], 1e-6);
      }
    }
  }
}

TEST(AdagradSharesOneSumOfSquares) {
  OptimizerOptions options = WithRate(0.1);
  options.initial_g2sum = 2;
  Trained trained(OptimizerKind::kAdagrad, 2, options);
  trained.Step({1, 3});  // The first step is not scaled.
  CHECK_NEAR(trained.w[0], -0.1f, 1e-7);
  CHECK_NEAR(trained.w[1], -0.3f, 1e-7);
  CHECK_NEAR(trained.state[0], 5.0f, 1e-6);  // mean(1, 9)
  trained.Step({1, 0});
  CHECK_NEAR(trained.w[0], -0.1 - 0.1 * std::sqrt(2.0 / 7.0), 1e-7);
  CHECK_NEAR(trained.w[1], -0.3, 1e-7);
  CHECK_NEAR(trained.state[0], 5.5f, 1e-6);
}

TEST(StdAdagradKeepsASumPerDimension) {
  OptimizerOptions options = WithRate(0.1);
  options.initial_g2sum = 2;
  Trained trained(OptimizerKind::kStdAdagrad, 2, options);
  trained.Step({1, 3});
  trained.Step({1, 1});
  CHECK_NEAR(trained.w[0], -0.1 - 0.1 * std::sqrt(2.0 / 3.0), 1e-7);
  CHECK_NEAR(trained.w[1], -0.3 - 0.1 * std::sqrt(2.0 / 11.0), 1e-7);
  CHECK_NEAR(trained.state[0], 2.0f, 1e-6);
  CHECK_NEAR(trained.state[1], 10.0f, 1e-6);
}

// Algorithm 1 of the paper, in float64, with the power written as a power.
TEST(AdamIsAlgorithm1) {
  OptimizerOptions options = WithRate(0.01);
  options.epsilon = 0.1;  // Large enough to tell where it stands.
  Trained trained(OptimizerKind::kAdam, 1, options);
  double w = 0, m = 0, v = 0;
  for (int t = 1; t <= 50; ++t) {
    const double g = 0.3 * std::sin(t);
    trained.Step({static_cast<float>(g)});
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    const double m_hat = m / (1 - std::pow(0.9, t)), v_hat = v / (1 - std::pow(0.999, t));
    w -= 0.01 * m_hat / (std::sqrt(v_hat) + 0.1);
    CHECK_NEAR(trained.w[0], w, 1e-5 * std::fabs(w) + 1e-6);
  }
  CHECK_NEAR(trained.state[2], std::pow(0.9, 50), 1e-6);
  CHECK_NEAR(trained.state[3], std::pow(0.999, 50), 1e-5);
}

TEST(AdamsFirstStepIsTheLearningRate) {
  for (float g : {1e-3f, 1.0f, 100.0f}) {
    Trained trained(OptimizerKind::kAdam, 1, WithRate(0.01));
    trained.Step({g});
    CHECK_NEAR(trained.w[0], -0.01f, 2e-7);
  }
}

TEST(FtrlIsTheClosedFormOfItsSums) {
  OptimizerOptions options;
  options.alpha = 0.5;
  options.beta = 2;
  options.l1 = 0.25;
  options.l2 = 0.125;
  Trained trained(OptimizerKind::kFtrl, 1, options);
  trained.Step({3});  // From w = 0: z = 3, n = 9.
  CHECK_NEAR(trained.state[0], 3.0f, 1e-6);
  CHECK_NEAR(trained.state[1], 9.0f, 1e-6);
  const double w = -(3 - 0.25) / ((2 + 3) / 0.5 + 0.125);
  CHECK_NEAR(trained.w[0], w, 1e-6);
  trained.Step({-4});  // n = 25, sigma = (5 - 3) / 0.5.
  const double z = 3 - 4 - 4 * w;
  CHECK_NEAR(trained.state[0], z, 1e-6);
  CHECK_NEAR(trained.state[1], 25.0f, 1e-6);
  CHECK_NEAR(trained.w[0], z > 0.25 ? -(z - 0.25) / ((2 + 5) / 0.5 + 0.125) : 0, 1e-6);
}

TEST(FtrlsL1GivesExactZeros) {
  OptimizerOptions options;
  options.l1 = 1;
  Trained trained(OptimizerKind::kFtrl, 2, options);
  trained.Step({0.5f, -2});
  CHECK_EQ(trained.w[0], 0.0f);
  CHECK_GT(trained.w[1], 0.0f);
}

TEST(EveryOptimizerClips) {
  for (OptimizerKind kind : kAll) {
    OptimizerOptions options = WithRate(100);
    options.alpha = 100;
    options.weight_min = -0.5;
    options.weight_max = 0.25;
    Trained trained(kind, 2, options);
    trained.Step({1, -1});
    CHECK_EQ(trained.w[0], -0.5f);
    CHECK_EQ(trained.w[1], 0.25f);
  }
}

// A sum of squares that overflows must not poison the weights.
TEST(EveryFiniteGradientLeavesWeightsInRange) {
  for (OptimizerKind kind : kAll) {
    Trained trained(kind, 2);
    for (float g : {3e38f, -3e38f, 1.0f, -3e38f, 3e38f, 0.0f}) {
      trained.Step({g, 1e-40f});
      for (float w : trained.w) CHECK_LE(std::fabs(w), 10.0f);
    }
  }
}

TEST(FtrlGoesOnAfterASumOfSquaresThatOverflows) {
  Trained trained(OptimizerKind::kFtrl, 1);
  for (float g : {3e38f, 3e38f, -3e38f}) trained.Step({g});
  for (float state : trained.state) CHECK_TRUE(std::isfinite(state));
}

}  // namespace tfps
