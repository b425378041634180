// Batches that are accumulated and pushed as one.
#include <algorithm>
#include <atomic>
#include <limits>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "ops/core/table.h"
#include "ops/tests/check.h"
#include "ops/tests/table_testing.h"

namespace tfps {
namespace {

using tfps_test::TestedTable;

constexpr char kOptions[] = "mf_dim=3;num_shards=8;accessor.create_threshold=3;mf.optimizer=adam";
constexpr int kWidth = 4;

// A batch with its place in the order of application.
struct Part {
  int64_t ticket, batch;
  OwnedBatch rows;
};

void AddRow(OwnedBatch* batch, uint64_t key, int32_t slot, float show, float click,
            const std::vector<float>& gradient, bool frozen = false) {
  if (frozen && batch->step_show.empty()) batch->step_show = batch->show;
  if (frozen || !batch->step_show.empty()) batch->step_show.push_back(frozen ? kFrozen : show);
  batch->width = static_cast<int>(gradient.size());
  batch->keys.push_back(static_cast<int64_t>(key));
  batch->slots.push_back(slot);
  batch->show.push_back(show);
  batch->click.push_back(click);
  batch->gradients.insert(batch->gradients.end(), gradient.begin(), gradient.end());
}

// Some of 60 keys, with shows and clicks that add up exactly; gradients do if `exact`.
OwnedBatch RandomBatch(std::mt19937* random, bool exact) {
  OwnedBatch batch;
  batch.width = kWidth;
  for (uint64_t key = 1; key <= 60; ++key) {
    if ((*random)() % 2) continue;
    std::vector<float> gradient(kWidth);
    for (float& g : gradient) {
      g = static_cast<float>(static_cast<int>((*random)() % 201) - 100);
      if (!exact) g /= 7;
    }
    AddRow(&batch, key, 1 + static_cast<int32_t>((*random)() % 3), 1 + (*random)() % 3,
           (*random)() % 2, gradient);
  }
  return batch;
}

std::vector<Part> RandomParts(std::mt19937* random, bool exact) {
  std::vector<Part> parts;
  for (int64_t ticket : {3, 4, 5}) {
    for (int64_t batch : {0, 1, 2}) parts.push_back({ticket, batch, RandomBatch(random, exact)});
  }
  return parts;
}

// Adds up by key, in the order of the parts.
OwnedBatch Merged(const std::vector<Part>& parts) {
  OwnedBatch merged;
  std::map<int64_t, size_t> row_of;
  for (const Part& part : parts) {
    for (size_t i = 0; i < part.rows.keys.size(); ++i) {
      const float* const gradient = &part.rows.gradients[i * kWidth];
      const auto [at, is_new] = row_of.emplace(part.rows.keys[i], merged.keys.size());
      if (is_new) {
        AddRow(&merged, static_cast<uint64_t>(part.rows.keys[i]), part.rows.slots[i], 0, 0,
               std::vector<float>(kWidth));
      }
      merged.show[at->second] += part.rows.show[i];
      merged.click[at->second] += part.rows.click[i];
      for (int d = 0; d < kWidth; ++d) merged.gradients[at->second * kWidth + d] += gradient[d];
    }
  }
  return merged;
}

void Accumulate(TestedTable* table, const std::vector<Part>& parts) {
  for (const Part& part : parts) {
    CHECK_FALSE((*table)->Accumulate(part.rows.View(), part.ticket, part.batch));
  }
}

int64_t Apply(TestedTable* table) {
  int64_t rows = -1;
  CHECK_EQ((*table)->ApplyAccumulated(SerialFor, &rows).value_or(""), "");
  return rows;
}

void CheckSameRows(const TestedTable& a, const TestedTable& b) {
  for (uint64_t key = 1; key <= 60; ++key) {
    const auto x = a.Inspect(key), y = b.Inspect(key);
    CHECK_EQ(x.found, y.found);
    CHECK_EQ(x.slot, y.slot);
    CHECK_EQ(x.admitted, y.admitted);
    CHECK_EQ(x.show, y.show);
    CHECK_EQ(x.click, y.click);
    CHECK_EQ(x.delta_score, y.delta_score);
    CHECK_TRUE(x.floats == y.floats);
  }
}

}  // namespace

TEST(PartsThatAreAppliedTogetherAreOnePushOfTheirSum) {
  std::mt19937 random(1);
  TestedTable accumulated(kOptions), pushed(kOptions);
  for (int step = 0; step < 5; ++step) {
    std::vector<Part> parts = RandomParts(&random, /*exact=*/true);
    const OwnedBatch merged = Merged(parts);
    CHECK_FALSE(pushed->Push(merged.View(), SerialFor));
    std::shuffle(parts.begin(), parts.end(), random);
    Accumulate(&accumulated, parts);
    CHECK_EQ(Apply(&accumulated), static_cast<int64_t>(merged.keys.size()));
    CheckSameRows(accumulated, pushed);
  }
  CHECK_EQ(accumulated.Statistic("pushed_keys"), pushed.Statistic("pushed_keys"));
  CHECK_GT(accumulated.Statistic("admitted"), 0.0);
}

TEST(TheOrderOfArrivalDoesNotMatter) {
  std::mt19937 random(2);
  TestedTable a(kOptions), b(kOptions);
  for (int step = 0; step < 5; ++step) {
    std::vector<Part> parts = RandomParts(&random, /*exact=*/false);
    Accumulate(&a, parts);
    std::reverse(parts.begin(), parts.end());
    Accumulate(&b, parts);
    Apply(&a);
    Apply(&b);
    CheckSameRows(a, b);
  }
}

TEST(NothingIsPushedBeforeItIsAppliedAndOnceThen) {
  std::mt19937 random(3);
  TestedTable table(kOptions);
  CHECK_EQ(Apply(&table), 0);
  Accumulate(&table, RandomParts(&random, true));
  CHECK_EQ(table.Statistic("rows"), 0.0);
  CHECK_GT(Apply(&table), 0);
  const double show = table.Statistic("show");
  CHECK_EQ(Apply(&table), 0);
  CHECK_EQ(table.Statistic("show"), show);
}

TEST(TheFirstGivesTheSlotAndTheWidestTheWidth) {
  Accumulated accumulated;
  OwnedBatch narrow, wide;
  AddRow(&narrow, 7, /*slot=*/2, 1, 0, {1, 2});
  AddRow(&narrow, 8, 2, 1, 0, {3, 4});
  AddRow(&wide, 9, 1, 1, 0, {5, 6, 7});
  AddRow(&wide, 7, 1, 2, 1, {10, 20, 30});
  accumulated.Add(wide.View(), 6, 0);
  accumulated.Add(narrow.View(), 5, 9);
  const OwnedBatch merged = accumulated.TakeMerged();
  CHECK_EQ(merged.width, 3);
  CHECK_TRUE((merged.keys == std::vector<int64_t>{7, 8, 9}));
  CHECK_TRUE((merged.slots == std::vector<int32_t>{2, 2, 1}));
  CHECK_TRUE((merged.show == std::vector<float>{3, 1, 1}));
  CHECK_TRUE((merged.click == std::vector<float>{1, 0, 0}));
  CHECK_TRUE((merged.gradients == std::vector<float>{11, 22, 30, 3, 4, 0, 5, 6, 7}));
}

TEST(ShowsAddUpInDouble) {
  Accumulated accumulated;
  OwnedBatch large, small;
  AddRow(&large, 7, 1, 1 << 24, 0, {0});
  AddRow(&small, 7, 1, 1, 0, {0});
  accumulated.Add(large.View(), 0, 0);
  for (int batch = 1; batch <= 4; ++batch) accumulated.Add(small.View(), 0, batch);
  CHECK_EQ(accumulated.TakeMerged().show[0], (1 << 24) + 4.0f);
}

TEST(SpecialKeysAndNumbersAreThoseOfOnePush) {
  TestedTable table(kOptions);
  OwnedBatch batch;
  AddRow(&batch, kPadding, 1, 1, 0, {1, 1});
  AddRow(&batch, kReservedEmpty, 1, 1, 0, {1, 1});
  AddRow(&batch, 7, 1, std::numeric_limits<float>::infinity(), 0, {1, 1});
  AddRow(&batch, 8, 1, 1, 0, {std::numeric_limits<float>::quiet_NaN(), 1});
  CHECK_FALSE(table->Accumulate(batch.View(), -1, 0));
  CHECK_FALSE(table->Accumulate(batch.View(), -1, 0));  // No ticket: another batch.
  CHECK_EQ(Apply(&table), 2);
  CHECK_EQ(table.Statistic("reserved_pushes"), 1.0);
  CHECK_EQ(table.Statistic("nonfinite_counts"), 1.0);
  CHECK_EQ(table.Statistic("nonfinite_gradients"), 1.0);
  CHECK_EQ(table.Inspect(8).show, 2.0);
  CHECK_EQ(table.Statistic("rows"), 1.0);
}

TEST(WhatWasFrozenInAllPartsIsFrozen) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  Accumulated accumulated;
  OwnedBatch one, two, three;
  AddRow(&one, 7, 1, 1, 0, {1, 2});
  AddRow(&one, 8, 1, 1, 1, {kNan, 4}, /*frozen=*/true);
  AddRow(&one, 9, 1, 2, 0, {kNan, kNan}, /*frozen=*/true);
  AddRow(&two, 7, 1, 4, 0, {kNan, 1}, /*frozen=*/true);
  AddRow(&two, 8, 1, 2, 0, {7, 7}, /*frozen=*/true);
  AddRow(&three, 9, 1, 3, 1, {5, 6});
  AddRow(&three, 10, 1, 1, 0, {8, 9});
  int64_t number = 0;
  for (const OwnedBatch* batch : {&one, &two, &three}) accumulated.Add(batch->View(), 0, number++);
  const OwnedBatch merged = accumulated.TakeMerged();
  CHECK_TRUE((merged.keys == std::vector<int64_t>{7, 8, 9, 10}));
  CHECK_TRUE((merged.show == std::vector<float>{5, 3, 5, 1}));
  CHECK_TRUE((merged.click == std::vector<float>{0, 1, 1, 0}));
  CHECK_TRUE((merged.gradients == std::vector<float>{1, 2, 0, 0, 5, 6, 8, 9}));
  CHECK_EQ(merged.step_show[0], 1.0f);
  CHECK_TRUE(IsFrozen(merged.step_show[1]));
  CHECK_EQ(merged.step_show[2], 3.0f);
  CHECK_EQ(merged.step_show[3], 1.0f);
  CHECK_TRUE(merged.View().step_show == merged.step_show.data());
  accumulated.Add(three.View(), 0, 0);
  CHECK_TRUE(accumulated.TakeMerged().View().step_show == nullptr);
}

TEST(ARestoredClockDropsWhatWasAccumulated) {
  std::mt19937 random(4);
  TestedTable table(kOptions);
  Accumulate(&table, RandomParts(&random, true));
  table->SetClock(3);
  CHECK_EQ(Apply(&table), 0);
  CHECK_EQ(table->clock().finished_below(), 3);
}

// Three threads accumulate what they claimed of the same batches, while a fourth applies.
TEST(ManyThreadsAccumulateEachBatchOnce) {
  constexpr int kBatches = 60;
  TestedTable table(kOptions);
  OwnedBatch batch;
  for (uint64_t key = 1; key <= 50; ++key) AddRow(&batch, key, 1, 1, 0, {1, 1, 1, 1});
  std::atomic<int> running{3};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kBatches; ++i) {
        if (table->clock().Claim(i / 10, i % 10, 0)) {
          CHECK_FALSE(table->Accumulate(batch.View(), i / 10, i % 10));
        }
      }
      --running;
    });
  }
  int64_t applied = 0;
  while (running > 0) {
    applied += Apply(&table);
    std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  applied += Apply(&table);
  CHECK_EQ(table.Statistic("pushed_keys"), static_cast<double>(applied));
  for (uint64_t key = 1; key <= 50; ++key) CHECK_EQ(table.Inspect(key).show, 1.0 * kBatches);
}

}  // namespace tfps
