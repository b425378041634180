#include "ops/core/options.h"

#include <limits>

#include "ops/tests/check.h"

namespace tfps {
namespace {

TableOptions Parsed(const std::string& text) {
  TableOptions options;
  CHECK_EQ(ParseTableOptions(text, &options).value_or(""), "");
  return options;
}

// The one sentence that refuses `text`; it must name `name`.
void CheckRefused(const std::string& text, const std::string& name,
                  const std::string& remedy = "") {
  TableOptions options;
  const std::string problem = ParseTableOptions(text, &options).value_or("accepted");
  CHECK_NE(problem, "accepted");
  const auto contains = [](const std::string& all, const std::string& part) {
    return all.find(part) != std::string::npos;
  };
  tfps_test::Check(problem, name, contains, "the error names the option", __FILE__, __LINE__);
  tfps_test::Check(problem, remedy, contains, "the error has the remedy", __FILE__, __LINE__);
  CHECK_EQ(problem.back(), '.');
}

}  // namespace

TEST(DefaultsAreTheDocumentedOnes) {
  const TableOptions options = Parsed("");
  CHECK_EQ(options.mf_dim, 8);
  CHECK_EQ(options.num_shards, 1024);
  CHECK_EQ(options.mf_init_range, 1e-4);
  CHECK_TRUE(options.gradient_scale == GradientScale::kPerShow);
  CHECK_EQ(options.accessor.nonclk_coeff, 0.1);
  CHECK_EQ(options.accessor.clk_coeff, 1.0);
  CHECK_EQ(options.accessor.create_threshold, 10.0);
  CHECK_EQ(options.accessor.base_update_threshold, 1.5);
  CHECK_EQ(options.accessor.delta_update_threshold, 0.25);
  CHECK_EQ(options.accessor.delta_keep_days, 16);
  CHECK_EQ(options.accessor.delete_threshold, 0.8);
  CHECK_EQ(options.accessor.delete_after_unseen_days, 30);
  CHECK_EQ(options.accessor.decay_rate, 0.98);
  for (const OptimizerOptions& optimizer : {options.lr, options.mf}) {
    CHECK_TRUE(optimizer.kind == OptimizerKind::kAdagrad);
    CHECK_EQ(optimizer.learning_rate, 0.05);
    CHECK_EQ(optimizer.initial_g2sum, 3.0);
    CHECK_EQ(optimizer.beta1, 0.9);
    CHECK_EQ(optimizer.beta2, 0.999);
    CHECK_EQ(optimizer.epsilon, 1e-8);
    CHECK_EQ(optimizer.alpha, 0.05);
    CHECK_EQ(optimizer.beta, 1.0);
    CHECK_EQ(optimizer.l1, 0.0);
    CHECK_EQ(optimizer.l2, 0.0);
    CHECK_EQ(optimizer.weight_min, -10.0);
    CHECK_EQ(optimizer.weight_max, 10.0);
  }
}

TEST(EveryKindOfValueIsRead) {
  const TableOptions options = Parsed(
      "mf_dim=4;seed=-1;gradient_scale=sum;accessor.create_threshold=-inf;"
      "accessor.decay_rate=0.97999999999999998;lr.optimizer=ftrl;lr.l1=1e-3;mf.optimizer=std_"
      "adagrad;"
      "mf.weight_max=0.1;");
  CHECK_EQ(options.mf_dim, 4);
  CHECK_EQ(options.seed, ~uint64_t{0});
  CHECK_TRUE(options.gradient_scale == GradientScale::kSum);
  CHECK_EQ(options.accessor.create_threshold, -std::numeric_limits<double>::infinity());
  CHECK_EQ(options.accessor.decay_rate, 0.98);
  CHECK_TRUE(options.lr.kind == OptimizerKind::kFtrl);
  CHECK_EQ(options.lr.l1, 1e-3);
  CHECK_EQ(options.mf.l1, 0.0);
  CHECK_TRUE(options.mf.kind == OptimizerKind::kStdAdagrad);
  CHECK_EQ(options.mf.weight_max, 0.1);
  CHECK_EQ(Parsed("seed=18446744073709551615").seed, ~uint64_t{0});
}

TEST(AdamsLearningRateHasItsOwnDefault) {
  CHECK_EQ(Parsed("lr.optimizer=adam").lr.learning_rate, 0.001);
  CHECK_EQ(Parsed("lr.optimizer=adam").mf.learning_rate, 0.05);
  CHECK_EQ(Parsed("mf.learning_rate=0.05;mf.optimizer=adam").mf.learning_rate, 0.05);
}

TEST(ASlotOverridesTheTable) {
  const TableOptions options = Parsed(
      "slot.7.mf_dim=16;mf_dim=4;accessor.create_threshold=3;lr.optimizer=ftrl;"
      "slot.7.lr.l1=0.5;slot.0.accessor.decay_rate=1;slot.2147483647.mf.optimizer=sgd");
  CHECK_EQ(options.mf_dim, 4);
  CHECK_EQ(options.lr.l1, 0.0);
  CHECK_EQ(options.slots.size(), 3u);
  const PolicyOptions& seven = options.slots.at(7);
  CHECK_EQ(seven.mf_dim, 16);
  CHECK_EQ(seven.accessor.create_threshold, 3.0);
  CHECK_TRUE(seven.lr.kind == OptimizerKind::kFtrl);
  CHECK_EQ(seven.lr.l1, 0.5);
  CHECK_EQ(options.slots.at(0).mf_dim, 4);
  CHECK_EQ(options.slots.at(0).accessor.decay_rate, 1.0);
  CHECK_EQ(options.slots.at(0).accessor.create_threshold, 3.0);
  CHECK_TRUE(options.slots.at(2147483647).mf.kind == OptimizerKind::kSgd);
  CHECK_TRUE(options.slots.at(2147483647).lr.kind == OptimizerKind::kFtrl);
}

TEST(ALearningRateThatNobodyGaveIsThatOfTheSlotsOptimizer) {
  const auto rate = [](const std::string& text) {
    return Parsed(text).slots.at(1).mf.learning_rate;
  };
  CHECK_EQ(rate("slot.1.mf.optimizer=adam"), 0.001);
  CHECK_EQ(rate("slot.1.mf.optimizer=adagrad;mf.optimizer=adam"), 0.05);
  CHECK_EQ(rate("slot.1.mf_dim=2;mf.optimizer=adam"), 0.001);
  CHECK_EQ(rate("slot.1.mf.optimizer=adam;mf.learning_rate=0.3"), 0.3);
  CHECK_EQ(rate("slot.1.mf.optimizer=adam;slot.1.mf.learning_rate=0.05"), 0.05);
  CHECK_EQ(rate("slot.1.mf.optimizer=adam;lr.learning_rate=0.3"), 0.001);
  CHECK_EQ(rate("slot.1.mf.optimizer=adam;slot.2.mf.learning_rate=0.3"), 0.001);
}

TEST(BadOptionsOfSlotsAreRefusedInOneSentence) {
  CheckRefused("slot.3.seed=1", "slot.3.seed", "mf_dim, accessor.*");
  CheckRefused("slot.3.mf_dmi=1", "slot.3.mf_dmi", "mf_dim, accessor.*");
  CheckRefused("slot.3.slot.4.mf_dim=1", "slot.3.slot.4.mf_dim");
  CheckRefused("slot.user_id.mf_dim=1", "slot.user_id.mf_dim", "from 0 to 2147483647");
  CheckRefused("slot.-1.mf_dim=1", "slot.-1.mf_dim", "from 0 to 2147483647");
  CheckRefused("slot.2147483648.mf_dim=1", "slot.2147483648.mf_dim", "from 0 to 2147483647");
  CheckRefused("slot.mf_dim=1", "slot.mf_dim", "from 0 to 2147483647");
  CheckRefused("slot.3=1", "slot.3", "from 0 to 2147483647");
  CheckRefused("slot.3.mf_dim=1;slot.03.mf_dim=1", "slot.03.mf_dim", "twice");
  CheckRefused("slot.3.mf_dim=0", "slot.3.mf_dim", "from 1 to");
  CheckRefused("slot.3.mf_dim=4097", "slot.3.mf_dim", "4096");
  CheckRefused("slot.3.mf.optimizer=adamw", "slot.3.mf.optimizer", "ftrl");
  CheckRefused("slot.3.lr.weight_min=11", "slot.3.lr.weight_min", "slot.3.lr.weight_max");
  CheckRefused("slot.3.mf_dim=4000;mf.optimizer=adam", "slot.3.mf_dim=4000", "16344");
  CheckRefused("mf_dim=4000;slot.3.mf.optimizer=adam", "slot.3.mf.optimizer", "16344");
}

TEST(BadOptionsAreRefusedInOneSentence) {
  CheckRefused("mf_dmi=8", "mf_dmi");
  CheckRefused("optimizer=adam", "optimizer");
  CheckRefused("mf_dim", "mf_dim", "name=value");
  CheckRefused("mf_dim=8;mf_dim=8", "mf_dim", "twice");
  CheckRefused("mf_dim=0", "mf_dim", "from 1 to");
  CheckRefused("mf_dim=8.5", "mf_dim", "integer");
  CheckRefused("mf_dim= 8", "mf_dim", "integer");
  CheckRefused("mf_dim=", "mf_dim", "integer");
  CheckRefused("num_shards=65537", "num_shards", "65536");
  CheckRefused("seed=x", "seed", "integer");
  CheckRefused("gradient_scale=mean", "gradient_scale", "per_show, sum");
  CheckRefused("mf.optimizer=adamw", "mf.optimizer", "ftrl");
  CheckRefused("accessor.decay_rate=1.01", "accessor.decay_rate", "from 0 to 1");
  CheckRefused("accessor.create_threshold=nan", "accessor.create_threshold", "number");
  CheckRefused("lr.beta2=1", "lr.beta2");
  CheckRefused("lr.beta2=0.99999999999", "lr.beta2");  // 1 as a float
  CheckRefused("lr.learning_rate=-1", "lr.learning_rate", "at least 0");
  CheckRefused("lr.alpha=0", "lr.alpha");
  CheckRefused("lr.weight_min=11", "lr.weight_min", "lr.weight_max");
}

TEST(ARowMustFitIntoAChunk) {
  Parsed("mf_dim=4000");
  CheckRefused("mf_dim=4000;mf.optimizer=adam", "mf_dim", "16344");
}

}  // namespace tfps
