#include "ops/core/table.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "ops/tests/check.h"
#include "ops/tests/table_testing.h"

namespace tfps {
namespace {

using tfps_test::FoundRow;
using tfps_test::PushedRow;
using tfps_test::TestedTable;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A click is worth 1, sgd with a rate of 1 makes gradients visible, mf starts at zero.
const char kPlain[] =
    "mf_dim=2;num_shards=4;mf_init_range=0;accessor.nonclk_coeff=0;accessor.create_threshold=2;"
    "lr.optimizer=sgd;lr.learning_rate=1;mf.optimizer=sgd;mf.learning_rate=1";

}  // namespace

TEST(APullOfWhatIsNotThereReadsZerosAndCreatesNothing) {
  TestedTable table(kPlain);
  for (float value : table.Pull({0, 5, kReservedEmpty, kReservedDeleted, ~uint64_t{0}})) {
    CHECK_EQ(value, 0.0f);
  }
  CHECK_EQ(table.Statistic("rows"), 0.0);
  CHECK_EQ(table.Statistic("pulled_keys"), 2.0);
  CHECK_FALSE(table.Inspect(5).found);
}

TEST(APushCreatesAndCounts) {
  TestedTable table("mf_dim=2");
  table.Push({{.key = 5, .show = 3, .click = 1, .gradient = 0, .slot = 9}});
  table.Push({{.key = 5, .show = 2, .click = 0.5, .gradient = 0, .slot = 9}});
  const FoundRow row = table.Inspect(5);
  CHECK_TRUE(row.found);
  CHECK_FALSE(row.admitted);
  CHECK_FALSE(row.served);
  CHECK_EQ(row.slot, 9);
  CHECK_EQ(row.show, 5.0);
  CHECK_EQ(row.click, 1.5);
  CHECK_NEAR(row.delta_score, 0.1 * 3.5 + 1.5, 1e-12);
  CHECK_EQ(row.unseen_days, 0);
  CHECK_EQ(table.Statistic("rows"), 1.0);
  CHECK_EQ(table.Statistic("show"), 5.0);
  CHECK_EQ(table.Statistic("click"), 1.5);
  CHECK_EQ(table.Statistic("pushed_keys"), 2.0);
}

TEST(TheAdmittingPushDoesNotStepTheNewVector) {
  TestedTable table(kPlain);
  table.Push({{.key = 5, .show = 1, .click = 1, .gradient = 1}});
  CHECK_TRUE(table.Pull({5}) == (std::vector<float>{-1, 0, 0}));
  table.Push({{.key = 5, .show = 1, .click = 1, .gradient = 1}});  // The score is now 2.
  CHECK_TRUE(table.Inspect(5).admitted);
  CHECK_TRUE(table.Pull({5}) == (std::vector<float>{-2, 0, 0}));
  table.Push({{.key = 5, .show = 1, .click = 0, .gradient = 1}});
  CHECK_TRUE(table.Pull({5}) == (std::vector<float>{-3, -1, -1}));
  CHECK_EQ(table.Inspect(5).show, 3.0);  // The head moved along.
  CHECK_EQ(table.Statistic("rows"), 1.0);
  CHECK_EQ(table.Statistic("admitted"), 1.0);
}

TEST(ThePushThatCreatesMayAdmitAtOnce) {
  TestedTable table(kPlain);
  table.Push({{.key = 5, .show = 2, .click = 2, .gradient = 2}});
  CHECK_TRUE(table.Inspect(5).admitted);
  CHECK_TRUE(table.Pull({5}) == (std::vector<float>{-1, 0, 0}));
}

TEST(MfStartsAtItsPureFunction) {
  TestedTable table("mf_dim=3;seed=11;mf_init_range=0.5;accessor.create_threshold=0");
  table.Push({{.key = 77}, {.key = 78}});
  float expected[3];
  for (uint64_t key : {77, 78}) {
    InitMf(11, key, 0.5, expected, 3);
    const std::vector<float> row = table.Pull({key});
    CHECK_TRUE(std::equal(expected, expected + 3, row.begin() + 1));
  }
}

TEST(GradientScales) {
  TestedTable per_show(kPlain);
  TestedTable sum(std::string(kPlain) + ";gradient_scale=sum");
  for (TestedTable* table : {&per_show, &sum}) {
    table->Push({{.key = 1, .show = 4, .click = 0, .gradient = 2}});
    table->Push({{.key = 2, .show = 0, .click = 0, .gradient = 2}});
    table->Push({{.key = 3, .show = -4, .click = 0, .gradient = 2}});
  }
  CHECK_EQ(per_show.Pull({1})[0], -0.5f);
  CHECK_EQ(sum.Pull({1})[0], -2.0f);
  for (uint64_t key : {2, 3}) {  // Without shows, the sum.
    CHECK_EQ(per_show.Pull({key})[0], -2.0f);
    CHECK_EQ(sum.Pull({key})[0], -2.0f);
  }
}

TEST(ANonfiniteGradientStepsNothingButCounts) {
  for (float bad : {kNan, kInfinity, -kInfinity}) {
    for (int at = 0; at < 3; ++at) {
      TestedTable table(kPlain);
      std::vector<float> gradients(3, 1);
      gradients[at] = bad;
      CHECK_EQ(table.TryPush({{.key = 5, .show = 1, .click = 1}}, gradients), "");
      CHECK_FALSE(table.Inspect(5).admitted);
      CHECK_EQ(table.TryPush({{.key = 5, .show = 1, .click = 1}}, gradients), "");
      CHECK_TRUE(table.Inspect(5).admitted);
      CHECK_EQ(table.TryPush({{.key = 5, .show = 1, .click = 1}}, gradients), "");
      CHECK_TRUE(table.Pull({5}) == (std::vector<float>{0, 0, 0}));
      CHECK_EQ(table.Inspect(5).click, 3.0);
      CHECK_EQ(table.Statistic("nonfinite_gradients"), 3.0);
    }
  }
}

TEST(AGradientThatOverflowsWhenScaledStepsNothing) {
  TestedTable table(kPlain);
  table.Push({{.key = 5, .show = 1e-30f, .click = 0, .gradient = 1e20f}});
  CHECK_EQ(table.Pull({5})[0], 0.0f);
  CHECK_EQ(table.Statistic("nonfinite_gradients"), 1.0);
}

TEST(AStepThatLeavesWhatIsNotFiniteIsNotTaken) {
  TestedTable table(
      "mf_dim=2;num_shards=4;accessor.create_threshold=0;mf.optimizer=std_adagrad;"
      "lr.optimizer=sgd;lr.learning_rate=1");
  CHECK_EQ(table.TryPush({{.key = 5}}, {0, 0, 0}), "");
  CHECK_EQ(table.TryPush({{.key = 5}}, {1, 1, 2}), "");
  const FoundRow before = table.Inspect(5);
  CHECK_EQ(before.floats[0], -1.0f);
  for (float huge : {1e30f, -3e38f}) {  // Its square is not finite: no step of lr_w either.
    CHECK_EQ(table.TryPush({{.key = 5}}, {1, 0, huge}), "");
    CHECK_TRUE(table.Inspect(5).floats == before.floats);
  }
  CHECK_EQ(table.Inspect(5).show, 4.0);
  CHECK_EQ(table.Statistic("nonfinite_gradients"), 2.0);
}

TEST(AFrozenRowOnlyCounts) {
  TestedTable table(
      "mf_dim=2;num_shards=4;accessor.nonclk_coeff=0;accessor.create_threshold=2;mf.optimizer=adam;"
      "lr.optimizer=ftrl");
  const auto push = [&](float click, float gradient, bool frozen) {
    table.Push({{.key = 5, .click = click, .gradient = gradient, .frozen = frozen}, {.key = 6}});
  };
  push(3, 1, true);
  FoundRow row = table.Inspect(5);
  CHECK_TRUE(row.found);
  CHECK_FALSE(row.admitted);
  CHECK_EQ(row.click, 3.0);
  CHECK_EQ(row.delta_score, 3.0);
  push(3, kNan, true);
  CHECK_FALSE(table.Inspect(5).admitted);
  CHECK_TRUE(table.Pull({5}) == (std::vector<float>{0, 0, 0}));
  CHECK_EQ(table.Statistic("nonfinite_gradients"), 0.0);
  push(0, 1, false);
  push(0, 1, false);
  row = table.Inspect(5);
  CHECK_TRUE(row.admitted);
  CHECK_EQ(table.EndOfDay(1), 1);  // The other row.
  push(0, 1, true);
  CHECK_TRUE(table.Inspect(5).floats == row.floats);
  CHECK_EQ(table.Inspect(5).unseen_days, 0);
}

TEST(RowsWithNonfiniteCountsAreDropped) {
  TestedTable table(kPlain);
  for (float bad : {kNan, kInfinity, -kInfinity}) {
    table.Push({{.key = 5, .show = bad}, {.key = 6, .show = 1, .click = bad}, {.key = 7}});
  }
  CHECK_EQ(table.Statistic("nonfinite_counts"), 6.0);
  CHECK_EQ(table.Statistic("rows"), 1.0);
  CHECK_EQ(table.Statistic("show"), 3.0);
}

TEST(RowsWithOddClicksCountAndAreCounted) {
  TestedTable table(kPlain);
  table.Push({{.key = 5, .show = 1, .click = -1},
              {.key = 6, .show = 1, .click = 2},
              {.key = 7, .show = 3, .click = 3},
              {.key = 8, .show = 0, .click = 1},
              {.key = 9, .show = 1e6, .click = 1000001}});
  CHECK_EQ(table.Statistic("odd_clicks"), 3.0);
  CHECK_EQ(table.Statistic("rows"), 5.0);
}

TEST(PaddingIsDroppedSilentlyAndReservedKeysAreCounted) {
  TestedTable table(kPlain);
  table.Push({{.key = kPadding}, {.key = kReservedEmpty}, {.key = kReservedDeleted}, {.key = 3}});
  CHECK_EQ(table.Statistic("rows"), 1.0);
  CHECK_EQ(table.Statistic("reserved_pushes"), 2.0);
  CHECK_EQ(table.Statistic("pushed_keys"), 1.0);
}

TEST(TheFirstSlotKeepsTheKey) {
  TestedTable table(kPlain);
  table.Push({{.key = 5, .show = 1, .click = 0, .gradient = 1, .slot = 1}});
  table.Push({{.key = 5, .show = 1, .click = 0, .gradient = 1, .slot = 2}});
  CHECK_EQ(table.Inspect(5).slot, 1);
  CHECK_EQ(table.Pull({5})[0], -2.0f);
  CHECK_EQ(table.Statistic("slot_conflicts"), 1.0);
}

TEST(ARepeatedKeyIsPushedTwiceInOrder) {
  TestedTable table(kPlain);
  std::vector<PushedRow> rows(100, {.key = 5, .show = 1, .click = 1, .gradient = 1});
  rows[0].slot = 7;
  rows[0].gradient = 1000;  // Clipped to -10, from where the others go on.
  table.Push(rows);
  CHECK_EQ(table.Statistic("rows"), 1.0);
  CHECK_EQ(table.Inspect(5).show, 100.0);
  CHECK_EQ(table.Inspect(5).slot, 7);
  CHECK_EQ(table.Pull({5})[0], -10.0f);
  CHECK_EQ(table.Pull({5})[1], -10.0f);  // 98 steps of 1 after the admission, clipped.
  rows.assign(1, {.key = 6, .show = 1, .click = 2, .gradient = 3});
  rows.push_back({.key = 6, .show = 1, .click = 0, .gradient = 2});
  table.Push(rows);
  CHECK_TRUE(table.Pull({6}) == (std::vector<float>{-5, -2, -2}));
}

TEST(ALargePushKeepsTheOrderOfEachKey) {
  TestedTable table(kPlain);
  constexpr int kRows = 50'000, kKeys = 5'000;  // PushItems sorts it in several blocks.
  std::vector<PushedRow> rows;
  for (int i = 0; i < kRows; ++i) {
    const uint64_t key = 1 + i % kKeys;
    // The first is clipped to -10, from where one goes up to -5 and the others down again.
    const float gradient = i < kKeys ? 1000 : i < 2 * kKeys ? -5 : 0.5;
    rows.push_back({.key = key, .show = 1, .click = 0, .gradient = gradient, .slot = i / kKeys});
  }
  table.Push(rows);
  int right = 0;
  for (uint64_t key = 1; key <= kKeys; ++key) {
    const auto row = table.Inspect(key);
    right += row.show == 10 && row.slot == 0 && table.Pull({key})[0] == -9;
  }
  CHECK_EQ(right, kKeys);
}

TEST(TheDaysEndEvictsFirstThenAges) {
  TestedTable table(
      "num_shards=4;accessor.nonclk_coeff=1;accessor.delete_threshold=4;accessor.decay_rate=0.5;"
      "accessor.delete_after_unseen_days=1");
  table.Push({{.key = 1, .show = 4}, {.key = 2, .show = 3.5}, {.key = 3, .show = 64}});
  CHECK_EQ(table.EndOfDay(1), 1);  // Key 1 is judged before its show is halved.
  CHECK_FALSE(table.Inspect(2).found);
  CHECK_EQ(table.Inspect(1).show, 2.0);
  CHECK_EQ(table.Inspect(1).unseen_days, 1);
  CHECK_EQ(table.Statistic("show"), 34.0);
  CHECK_EQ(table.EndOfDay(2), 1);
  CHECK_FALSE(table.Inspect(1).found);
  CHECK_EQ(table.Inspect(3).unseen_days, 2);
  table.Push({{.key = 3, .show = 1}});
  CHECK_EQ(table.Inspect(3).unseen_days, 0);
  CHECK_EQ(table.Inspect(3).show, 17.0);
  CHECK_EQ(table.EndOfDay(3), 0);
  CHECK_EQ(table.EndOfDay(4), 0);
  CHECK_EQ(table.Statistic("rows"), 1.0);
  CHECK_EQ(table.Inspect(3).unseen_days, 2);
  CHECK_EQ(table.EndOfDay(5), 1);  // Unseen for 2 days, and 1 is the most.
  CHECK_EQ(table.Statistic("rows"), 0.0);
}

TEST(ADayEndsOnce) {
  TestedTable table("accessor.delete_threshold=0;accessor.decay_rate=0.5");
  table.Push({{.key = 1, .show = 16}});
  table.EndOfDay(20000);
  table.EndOfDay(20000);
  table.EndOfDay(19999);
  CHECK_EQ(table.Inspect(1).show, 8.0);
  CHECK_EQ(table.Inspect(1).unseen_days, 1);
  table.EndOfDay(20001);
  CHECK_EQ(table.Inspect(1).show, 4.0);
}

TEST(EvictedMemoryIsUsedAgain) {
  TestedTable table("mf_dim=8;num_shards=16;accessor.create_threshold=0");
  const auto fill = [&](uint64_t first) {
    std::vector<PushedRow> rows;
    for (uint64_t key = first; key < first + 50000; ++key) rows.push_back({.key = key});
    table.Push(rows);
  };
  fill(1);
  const double bytes = table.Statistic("bytes");
  for (int day = 1; day <= 5; ++day) {
    CHECK_EQ(table.EndOfDay(day), 50000);  // A score of 0.1 is below 0.8.
    CHECK_EQ(table.Statistic("rows"), 0.0);
    CHECK_EQ(table.Statistic("admitted"), 0.0);
    CHECK_LT(table.Statistic("bytes"), 4096.0);
    fill(1 + 50000 * day);
    CHECK_LE(table.Statistic("bytes"), bytes * 1.02);
  }
  CHECK_EQ(table.Statistic("rows"), 50000.0);
}

TEST(KeysAreThoseOfTheShards) {
  TestedTable table("num_shards=8");
  std::vector<PushedRow> rows;
  for (uint64_t key = 1; key <= 1000; ++key) rows.push_back({.key = key});
  table.Push(rows);
  std::vector<uint64_t> all;
  for (int shard = 0; shard < 8; ++shard) {
    for (uint64_t key : table->Keys(shard, shard + 1)) {
      CHECK_EQ(VirtualShard(key, 8), static_cast<uint32_t>(shard));
      all.push_back(key);
    }
  }
  std::sort(all.begin(), all.end());
  CHECK_EQ(all.size(), 1000u);
  CHECK_EQ(all.front(), 1u);
  CHECK_EQ(all.back(), 1000u);
  CHECK_EQ(table->Keys(0, 8).size(), 1000u);
  CHECK_EQ(table->Keys(3, 3).size(), 0u);
}

TEST(StatisticsHaveTheDocumentedNames) {
  const std::string documented =
      "rows admitted bytes show click reserved_pushes slot_conflicts nonfinite_gradients "
      "nonfinite_counts odd_clicks pulled_keys pushed_keys evicted evicted_at_limit pushes "
      "repeated_pushes "
      "staleness_sum staleness_max tickets_ahead_max fullness_max ";
  TestedTable table("");
  std::string names;
  for (const auto& [name, value] : table->Statistics()) names += name + " ";
  CHECK_EQ(names, documented);
}

TEST(AFullTableSaysSoAndKeepsWhatItHas) {
  TestedTable table("mf_dim=4000;num_shards=1;accessor.create_threshold=10;mf.optimizer=sgd",
                    SerialFor, 8 * ChunkPool::kSlabBytes);
  std::vector<PushedRow> rows;
  for (uint64_t key = 1; key <= 1100; ++key) rows.push_back({.key = key, .show = 100});
  std::vector<float> gradients(rows.size() * table->row_width());
  const std::string problem = table.TryPush(rows, gradients);
  CHECK_NE(problem.find("more servers"), std::string::npos);
  const double found_room = table.Statistic("rows");
  CHECK_GT(found_room, 1000.0);  // of 8 * 127 chunks
  CHECK_LE(found_room, 1016.0);
  CHECK_EQ(table.Inspect(static_cast<uint64_t>(found_room)).show, 100.0);
  CHECK_FALSE(table.Inspect(static_cast<uint64_t>(found_room) + 1).found);
  rows.assign(1, {.key = 1, .show = 1});
  CHECK_EQ(table.TryPush(rows, gradients), "");
}

TEST(ManyRandomStepsAgreeWithAMap) {
  struct Row {
    double show = 0, click = 0, delta_score = 0;
    int unseen_days = 0;
    bool admitted = false;
    float lr_w = 0, mf_w = 0;
  };
  TestedTable table(
      "mf_dim=1;num_shards=3;mf_init_range=0;lr.optimizer=sgd;mf.optimizer=sgd;"
      "gradient_scale=sum;accessor.create_threshold=3;accessor.delete_threshold=0.5;"
      "accessor.delete_after_unseen_days=4");
  std::map<uint64_t, Row> rows;
  std::mt19937_64 random(5);
  for (int day = 1; day <= 30; ++day) {
    for (int batch = 0; batch < 5; ++batch) {
      std::vector<PushedRow> pushed(1 + random() % 2000);
      for (PushedRow& push : pushed) {
        push.key = 1 + random() % (1 + random() % 5000);
        push.show = static_cast<float>(random() % 4);
        push.click = static_cast<float>(random() % 2);
        push.gradient = static_cast<float>(random() % 64) / 64 - 0.5f;
        Row& row = rows[push.key];
        row.show += push.show;
        row.click += push.click;
        row.delta_score += (push.show - push.click) * 0.1 + push.click;
        row.unseen_days = 0;
        row.lr_w -= 0.05f * push.gradient;
        if (row.admitted) row.mf_w -= 0.05f * push.gradient;
        if ((row.show - row.click) * 0.1 + row.click >= 3) row.admitted = true;
      }
      table.Push(pushed);
    }
    double evicted = 0;
    for (auto it = rows.begin(); it != rows.end();) {
      Row& row = it->second;
      if (row.unseen_days > 4 || (row.show - row.click) * 0.1 + row.click < 0.5) {
        it = rows.erase(it);
        ++evicted;
        continue;
      }
      ++row.unseen_days;
      row.show *= 0.98;
      row.click *= 0.98;
      ++it;
    }
    CHECK_EQ(table.EndOfDay(day), evicted);
    CHECK_EQ(table.Statistic("rows"), static_cast<double>(rows.size()));
    double admitted = 0;
    for (uint64_t key = 1; key <= 5000; ++key) {
      const FoundRow found = table.Inspect(key);
      const auto it = rows.find(key);
      CHECK_EQ(found.found, it != rows.end());
      if (it == rows.end()) continue;
      const Row& row = it->second;
      admitted += row.admitted;
      CHECK_EQ(found.show, row.show);
      CHECK_EQ(found.click, row.click);
      CHECK_NEAR(found.delta_score, row.delta_score, 1e-9);
      CHECK_EQ(found.unseen_days, row.unseen_days);
      CHECK_EQ(found.admitted, row.admitted);
      const std::vector<float> pulled = table.Pull({key});
      CHECK_NEAR(pulled[0], row.lr_w, 1e-5);
      CHECK_NEAR(pulled[1], row.mf_w, 1e-5);
    }
    CHECK_EQ(table.Statistic("admitted"), admitted);
  }
}

}  // namespace tfps
