#include "ops/core/pool.h"

#include <random>
#include <thread>

#include "ops/tests/check.h"

namespace tfps {
namespace {

// Two threads, so that ThreadSanitizer sees what runs at the same time.
void TwoThreads(int64_t total, int64_t, std::function<void(int64_t, int64_t)> work) {
  std::thread other([&] { work(0, total / 2); });
  work(total / 2, total);
  other.join();
}

// A batch of bags with all that it needs; the vectors are public so that a test can spoil them.
struct Case {
  std::vector<int32_t> positions;
  std::vector<int64_t> row_splits;
  std::vector<float> weights;
  std::vector<Combiner> combiners;
  int64_t width = 8;  // An mf vector of a four and a rest.
  std::vector<float> rows;
  std::vector<float> lr, mf;

  int64_t NumSlots() const { return static_cast<int64_t>(combiners.size()); }
  int64_t BatchSize() const { return (static_cast<int64_t>(row_splits.size()) - 1) / NumSlots(); }
  int64_t NumRows() const { return static_cast<int64_t>(rows.size()) / width; }

  PoolInput Input() const {
    const Bags bags = {positions.data(), static_cast<int64_t>(positions.size()), row_splits.data(),
                       NumSlots(), BatchSize()};
    return {bags, weights.empty() ? nullptr : weights.data(), combiners, width};
  }

  void Run(const ParallelFor& parallel_for = TwoThreads) {
    CHECK_EQ(CheckBags(Input().bags, NumRows()), "");
    lr.assign(BatchSize() * NumSlots(), -7);
    mf.assign(BatchSize() * NumSlots() * (width - 1), -7);
    Pool(Input(), rows.data(), lr.data(), mf.data(), parallel_for);
  }
};

constexpr int64_t kWidths[] = {8, 9, 17};  // An mf vector of fours and a rest, and the usual ones.

Case RandomCase(uint64_t seed, bool weighted) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Case c;
  c.width = kWidths[seed % 3];
  c.combiners = {Combiner::kSum, Combiner::kMean, Combiner::kSqrtn};
  c.row_splits = {0};
  for (int bag = 0; bag < 3 * 37; ++bag) {
    for (uint64_t n = random() % 4; n > 0; --n) {
      c.positions.push_back(static_cast<int32_t>(random() % 7) - 1);
      if (weighted) c.weights.push_back(0.5f + static_cast<float>(random() % 5));
    }
    c.row_splits.push_back(static_cast<int64_t>(c.positions.size()));
  }
  for (int i = 0; i < 6 * c.width; ++i) c.rows.push_back(normal(random));
  return c;
}

}  // namespace

TEST(EachCombiner) {
  Case c;
  c.width = 2;
  c.rows = {1, 10, 2, 20, 3, 30};
  // Three slots of two examples: {0, 1, padding} and nothing.
  c.positions = {0, 1, -1, 0, 1, -1, 0, 1, -1};
  c.row_splits = {0, 3, 3, 6, 6, 9, 9};
  c.combiners = {Combiner::kSum, Combiner::kMean, Combiner::kSqrtn};
  c.Run();
  const float root2 = std::sqrt(2.0f);
  const float unweighted[] = {3, 1.5, 3 / root2};
  for (int s = 0; s < 3; ++s) {
    CHECK_NEAR(c.lr[s], unweighted[s], 1e-6);
    CHECK_NEAR(c.mf[s], 10 * unweighted[s], 1e-5);
    CHECK_EQ(c.lr[3 + s], 0);  // Of the empty bags.
    CHECK_EQ(c.mf[3 + s], 0);
  }
  c.weights = {3, 4, 100, 3, 4, 100, 3, 4, 100};
  c.Run();
  const float weighted[] = {11, 11.0f / 7, 11.0f / 5};
  for (int s = 0; s < 3; ++s) {
    CHECK_NEAR(c.lr[s], weighted[s], 1e-6);
    CHECK_NEAR(c.mf[s], 10 * weighted[s], 1e-5);
  }
}

TEST(WeightsThatAddUpToZeroPoolToZero) {
  Case c;
  c.width = 1;
  c.rows = {1, 2};
  c.positions = {0, 1, 0};
  c.weights = {1, -1, 0};
  c.row_splits = {0, 2, 3};
  c.combiners = {Combiner::kMean, Combiner::kSqrtn};
  c.Run();
  CHECK_EQ(c.lr[0], 0);
  CHECK_EQ(c.lr[1], 0);
}

TEST(SlotMajorBagsBecomeExampleMajorOutputs) {
  Case c;
  c.width = 2;
  for (int row = 0; row < 6; ++row) c.rows.insert(c.rows.end(), {1.0f * row, 10.0f * row});
  c.positions = {0, 1, 2, 3, 4, 5};  // Slot 0 of examples 0, 1, 2, then slot 1.
  c.row_splits = {0, 1, 2, 3, 4, 5, 6};
  c.combiners = {Combiner::kSum, Combiner::kSum};
  c.Run();
  CHECK_TRUE((c.lr == std::vector<float>{0, 3, 1, 4, 2, 5}));
  CHECK_TRUE((c.mf == std::vector<float>{0, 30, 10, 40, 20, 50}));
}

TEST(SumsOfEveryWidthAreThoseOfTheRows) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Case c = RandomCase(seed, true);
    c.combiners.assign(3, Combiner::kSum);
    c.Run();
    for (int64_t bag = 0; bag < 3 * c.BatchSize(); ++bag) {
      std::vector<double> sum(c.width);
      for (int64_t i = c.row_splits[bag]; i < c.row_splits[bag + 1]; ++i) {
        if (c.positions[i] < 0) continue;
        for (int64_t d = 0; d < c.width; ++d) {
          sum[d] += c.weights[i] * c.rows[c.positions[i] * c.width + d];
        }
      }
      const int64_t out = bag % c.BatchSize() * 3 + bag / c.BatchSize();
      CHECK_NEAR(c.lr[out], sum[0], 1e-4);
      for (int64_t d = 1; d < c.width; ++d) {
        CHECK_NEAR(c.mf[out * (c.width - 1) + d - 1], sum[d], 1e-4);
      }
    }
  }
}

TEST(ThreadsDoNotChangeTheResult) {
  Case serial = RandomCase(3, true), parallel = serial;
  serial.Run(SerialFor);
  parallel.Run();
  CHECK_TRUE(serial.lr == parallel.lr);
  CHECK_TRUE(serial.mf == parallel.mf);
}

// Pooling is linear in the rows, so the gradient is exact: <Pool(rows), g> = <rows, PoolGrad(g)>.
TEST(GradientIsTheAdjoint) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Case c = RandomCase(seed, seed % 2 == 0);
    c.Run();
    std::mt19937_64 random(100 + seed);
    std::normal_distribution<float> normal;
    std::vector<float> lr_grad(c.lr.size()), mf_grad(c.mf.size()), rows_grad(c.rows.size(), -7);
    for (float& g : lr_grad) g = normal(random);
    for (float& g : mf_grad) g = normal(random);
    PoolGrad(c.Input(), lr_grad.data(), mf_grad.data(), c.NumRows(), rows_grad.data());
    double forward = 0, backward = 0;
    for (size_t i = 0; i < lr_grad.size(); ++i) forward += c.lr[i] * lr_grad[i];
    for (size_t i = 0; i < mf_grad.size(); ++i) forward += c.mf[i] * mf_grad[i];
    for (size_t i = 0; i < rows_grad.size(); ++i) backward += c.rows[i] * rows_grad[i];
    CHECK_NEAR(forward, backward, 1e-3);
  }
}

TEST(EmptyInputs) {
  Case c;
  c.combiners = {Combiner::kSum, Combiner::kMean};
  c.row_splits = {0};
  c.Run();
  c.row_splits = {0, 0, 0, 0, 0};  // Two examples without ids, and no rows.
  c.Run();
  for (float value : c.lr) CHECK_EQ(value, 0);
  for (float value : c.mf) CHECK_EQ(value, 0);
  PoolGrad(c.Input(), c.lr.data(), c.mf.data(), 0, nullptr);
}

TEST(BadBagsAreNamed) {
  const Case good = RandomCase(1, false);
  const auto problem = [](const Case& c, int64_t num_rows) {
    return CheckBags(c.Input().bags, num_rows);
  };
  const auto contains = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  CHECK_EQ(problem(good, 6), "");
  CHECK_TRUE(contains(problem(good, 3), "positions must be -1 or in [0, 3)"));
  Case c = good;
  c.positions[0] = -2;
  CHECK_TRUE(contains(problem(c, 6), "reach from -2"));
  c = good;
  c.row_splits[0] = 1;
  CHECK_TRUE(contains(problem(c, 6), "row_splits must run from 0"));
  c = good;
  c.row_splits.back() += 1;
  CHECK_TRUE(contains(problem(c, 6), "row_splits must run from 0"));
  c = good;
  c.row_splits[2] = static_cast<int64_t>(c.positions.size()) + 1;
  CHECK_EQ(problem(c, 6), "row_splits must not decrease.");
}

TEST(BadBagsAreNamedWhereverTheyAre) {
  constexpr int kBags = 150;
  Case good;
  good.combiners = {Combiner::kSum};
  for (int bag = 0; bag <= kBags; ++bag) good.row_splits.push_back(bag);
  for (int i = 0; i < kBags; ++i) good.positions.push_back(i % 5 - 1);
  const auto problem = [](const Case& c) { return CheckBags(c.Input().bags, 4); };
  CHECK_EQ(problem(good), "");
  for (int i : {0, 1, 63, 64, 127, 128, kBags - 1}) {
    for (int32_t bad : {-2, 4, INT32_MIN, INT32_MAX}) {
      Case c = good;
      c.positions[i] = bad;
      CHECK_TRUE(problem(c).find(std::to_string(bad)) != std::string::npos);
    }
    for (int64_t bad : {int64_t{-1}, INT64_MIN, INT64_MAX, int64_t{i + 2}}) {
      if (i == 0) continue;
      Case c = good;
      c.row_splits[i] = bad;
      CHECK_EQ(problem(c), "row_splits must not decrease.");
    }
  }
}

TEST(CombinersHaveNames) {
  Combiner combiner = Combiner::kSum;
  CHECK_TRUE(ParseCombiner("sqrtn", &combiner));
  CHECK_TRUE(combiner == Combiner::kSqrtn);
  CHECK_TRUE(ParseCombiner("mean", &combiner));
  CHECK_TRUE(combiner == Combiner::kMean);
  CHECK_TRUE(ParseCombiner("sum", &combiner));
  CHECK_TRUE(combiner == Combiner::kSum);
  CHECK_FALSE(ParseCombiner("max", &combiner));
}

}  // namespace tfps
