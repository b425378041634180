// Slots with policies of their own in one table.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "ops/core/table.h"
#include "ops/core/table_config.h"
#include "ops/tests/check.h"
#include "ops/tests/table_testing.h"

namespace tfps {
namespace {

using tfps_test::PushedRow;
using tfps_test::TestedTable;

using Values = std::vector<float>;

// Every show is worth 1, sgd with a rate of 1 makes gradients visible, mf starts at zero. Slot 1 is
// the table's, 2 is wider and admits at once, 3 is narrower, and 70000 has a number that is large.
const char kOptions[] =
    "mf_dim=2;num_shards=4;mf_init_range=0;gradient_scale=sum;accessor.nonclk_coeff=1;"
    "accessor.create_threshold=2;accessor.delete_threshold=0;"
    "lr.optimizer=sgd;lr.learning_rate=1;mf.optimizer=sgd;mf.learning_rate=1;"
    "slot.2.mf_dim=4;slot.2.accessor.create_threshold=0;slot.2.accessor.decay_rate=0.5;"
    "slot.3.mf_dim=1;slot.3.mf.learning_rate=0.5;slot.3.accessor.nonclk_coeff=2;"
    "slot.70000.mf_dim=3;slot.70000.accessor.create_threshold=0";

PushedRow Row(uint64_t key, int32_t slot, float show = 1) {
  return {.key = key, .show = show, .click = 0, .gradient = 0, .slot = slot};
}

}  // namespace

TEST(EverySlotFindsItsPolicy) {
  TableOptions options;
  CHECK_EQ(ParseTableOptions(kOptions, &options).value_or(""), "");
  const TableConfig config(options);
  const auto mf_dim = [&](int32_t slot) { return config.PolicyOf(slot).layout.mf_dim; };
  for (int32_t slot : {0, 1, 4, 65535, 65536, 69999, 70001, 2147483647, -1, -70000}) {
    CHECK_EQ(mf_dim(slot), 2);
  }
  CHECK_EQ(mf_dim(2), 4);
  CHECK_EQ(mf_dim(3), 1);
  CHECK_EQ(mf_dim(70000), 3);
  CHECK_EQ(config.mf_dim(), 4);
  CHECK_EQ(config.row_floats(), 5);
}

TEST(RowsOfOneSizeShareASizeClass) {
  TableOptions options;
  CHECK_EQ(ParseTableOptions("mf_dim=8;slot.1.accessor.decay_rate=1;slot.2.mf_dim=16;"
                             "slot.3.mf.optimizer=sgd;slot.3.mf_dim=9",
                             &options)
               .value_or(""),
           "");
  const TableConfig config(options);
  // 48 bytes of all heads, 96 and 128 bytes; of those of slot 3 the weights lie elsewhere.
  CHECK_EQ(config.size_classes().size(), 4u);
  for (int32_t slot : {0, 1, 2, 3}) CHECK_EQ(config.PolicyOf(slot).size_class[false], 0);
  CHECK_EQ(config.PolicyOf(1).size_class[true], config.PolicyOf(0).size_class[true]);
  CHECK_NE(config.PolicyOf(3).size_class[true], config.PolicyOf(0).size_class[true]);
  CHECK_NE(config.PolicyOf(2).size_class[true], config.PolicyOf(0).size_class[true]);
}

TEST(EachRowIsAdmittedAndSteppedByItsSlot) {
  TestedTable table(kOptions);
  CHECK_EQ(table->row_width(), 5);
  const std::vector<PushedRow> rows = {Row(10, 1), Row(20, 2), Row(30, 3), Row(70, 70000)};
  const Values gradients = {1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5};
  CHECK_EQ(table.TryPush(rows, gradients), "");
  CHECK_FALSE(table.Inspect(10).admitted);
  CHECK_TRUE(table.Inspect(20).admitted);
  CHECK_TRUE(table.Inspect(30).admitted);  // A show is worth 2 here.
  CHECK_TRUE(table.Inspect(70).admitted);
  CHECK_EQ(table.TryPush(rows, gradients), "");  // admits 10, steps the others' mf
  CHECK_EQ(table.TryPush(rows, gradients), "");
  CHECK_TRUE(table.Pull({10}) == (Values{-3, -2, -3, 0, 0}));
  CHECK_TRUE(table.Pull({20}) == (Values{-3, -4, -6, -8, -10}));
  CHECK_TRUE(table.Pull({30}) == (Values{-3, -2, 0, 0, 0}));
  CHECK_TRUE(table.Pull({70}) == (Values{-3, -4, -6, -8, 0}));
  CHECK_TRUE(table.Pull({10, 20, 30}, 3) == (Values{-3, -2, -3, -3, -4, -6, -3, -2, 0}));
  CHECK_TRUE(table.Inspect(30).floats == (Values{-3, -2, 0, 0, 0}));
  CHECK_EQ(table.Inspect(30).delta_score, 6.0);
}

TEST(WhatANarrowPushDoesNotBringIsAZeroGradient) {
  TestedTable table(
      "mf_dim=1;num_shards=1;mf_init_range=0;"
      "accessor.create_threshold=0;slot.2.mf_dim=3;slot.2.mf.optimizer=std_adagrad");
  TestedTable wide(
      "mf_dim=3;num_shards=1;mf_init_range=0;"
      "accessor.create_threshold=0;mf.optimizer=std_adagrad");
  for (int i = 0; i < 3; ++i) {
    CHECK_EQ(table.TryPush({Row(9, 2)}, {7, 7, 7, 7}), "");  // Leaves nothing to the next push.
    CHECK_EQ(table.TryPush({Row(5, 2)}, {1, 2}), "");
    CHECK_EQ(wide.TryPush({Row(5, 2)}, {1, 2, 0, 0}), "");
  }
  CHECK_TRUE(table.Inspect(5).floats == wide.Inspect(5).floats);
  CHECK_LT(table.Pull({5})[1], 0.0f);
  CHECK_EQ(table.Pull({5})[2], 0.0f);
  CHECK_EQ(table.Statistic("nonfinite_gradients"), 0.0);
}

TEST(OnlyTheGradientsThatARowHasMustBeFinite) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  TestedTable table(kOptions);
  table.Push({Row(30, 3)});
  CHECK_EQ(table.TryPush({Row(30, 3)}, {1, 1, kNan, kNan, kNan}), "");
  CHECK_TRUE(table.Pull({30}, 2) == (Values{-1, -0.5}));
  CHECK_EQ(table.Statistic("nonfinite_gradients"), 0.0);
  CHECK_EQ(table.TryPush({Row(30, 3)}, {1, kNan, 1, 1, 1}), "");
  CHECK_TRUE(table.Pull({30}, 2) == (Values{-1, -0.5}));
  CHECK_EQ(table.TryPush({Row(20, 2)}, {1, 1, 1, 1, kNan}), "");
  CHECK_EQ(table.Statistic("nonfinite_gradients"), 2.0);
}

TEST(ARowBelongsToTheSlotThatCreatedIt) {
  TestedTable table(kOptions);
  table.Push({Row(20, 2), Row(10, 1)});
  // Slot 3 has one mf weight and halves steps; slot 2 would admit.
  CHECK_EQ(table.TryPush({Row(20, 3), Row(10, 2, 0.5)}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}), "");
  CHECK_EQ(table.Inspect(20).slot, 2);
  CHECK_TRUE(table.Pull({20}) == (Values{-1, -1, -1, -1, -1}));
  CHECK_EQ(table.Inspect(20).delta_score, 2.0);
  CHECK_FALSE(table.Inspect(10).admitted);
  CHECK_EQ(table.Statistic("slot_conflicts"), 2.0);
}

TEST(TheDayOfEachSlot) {
  TestedTable table(
      "num_shards=2;accessor.nonclk_coeff=1;accessor.delete_threshold=4;accessor.decay_rate=0.5;"
      "slot.1.accessor.delete_threshold=8;slot.2.accessor.decay_rate=1;"
      "slot.3.accessor.delete_after_unseen_days=0;slot.4.accessor.nonclk_coeff=0.25");
  for (int32_t slot = 0; slot <= 4; ++slot) table.Push({Row(100 + slot, slot, 6)});
  const auto due = table->CountEvictable(1, SerialFor);
  CHECK_TRUE(due == (std::map<int32_t, int64_t>{{1, 1}, {4, 1}}));
  CHECK_EQ(table->Evictable(0, 2, 1, SerialFor).size(), 2u);
  CHECK_EQ(table.EndOfDay(1), 2);
  CHECK_FALSE(table.Inspect(101).found);
  CHECK_FALSE(table.Inspect(104).found);
  CHECK_EQ(table.Inspect(100).show, 3.0);
  CHECK_EQ(table.Inspect(102).show, 6.0);
  CHECK_EQ(table.Statistic("show"), 12.0);
  table.Push({Row(103, 3, 7)});
  table.EndOfDay(2);  // Evicts 100, whose show was 3.
  CHECK_FALSE(table.Inspect(100).found);
  CHECK_TRUE(table.Inspect(103).found);
  table.Push({Row(200, 0, 64), Row(203, 3, 64)});
  table.EndOfDay(3);
  CHECK_FALSE(table.Inspect(103).found);  // Unseen for a day, and 0 is the most.
  table.EndOfDay(4);
  CHECK_TRUE(table.Inspect(200).found);
  CHECK_FALSE(table.Inspect(203).found);
}

}  // namespace tfps
