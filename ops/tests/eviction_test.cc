// The rows that a day's end evicts: they are listed before, and returned when evicted, each once.
// Also run under ThreadSanitizer.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "ops/core/table.h"
#include "ops/tests/check.h"
#include "ops/tests/table_testing.h"

namespace tfps {
namespace {

using tfps_test::PushedRow;
using tfps_test::TestedTable;

constexpr int kShards = 16;
// A show is worth 1, a row with less than 4 is evicted, and a day halves shows.
const char kOptions[] =
    "mf_dim=2;num_shards=16;accessor.nonclk_coeff=1;accessor.create_threshold=6;"
    "accessor.delete_threshold=4;accessor.decay_rate=0.5";

void Fill(TestedTable* table, uint64_t keys) {
  std::vector<PushedRow> rows;
  for (uint64_t key = 1; key <= keys; ++key) {
    rows.push_back({.key = key,
                    .show = static_cast<float>(key % 8),
                    .click = 0,
                    .gradient = 0,
                    .slot = static_cast<int32_t>(key % 3)});
  }
  table->Push(rows);
}

std::set<uint64_t> KeysOf(const std::vector<RowHead>& rows) {
  std::set<uint64_t> keys;
  for (const RowHead& row : rows) keys.insert(row.key);
  CHECK_EQ(keys.size(), rows.size());  // each once
  return keys;
}

std::vector<uint64_t> ListOf(const std::vector<RowHead>& rows) {
  std::vector<uint64_t> keys;
  for (const RowHead& row : rows) keys.push_back(row.key);
  return keys;
}

std::vector<RowHead> EndRange(TestedTable* table, int first, int last, int64_t day,
                              std::optional<std::vector<uint64_t>> announced = std::nullopt) {
  return (*table)->EndOfDayRows(first, last, day, std::move(announced), SerialFor);
}

}  // namespace

TEST(WhatIsEvictableIsWhatLeaves) {
  TestedTable table(kOptions);
  Fill(&table, 8000);
  const auto counts = table->CountEvictable(1, SerialFor);
  CHECK_EQ(counts.size(), 3u);
  int64_t counted = 0;
  for (const auto& [slot, count] : counts) counted += count;
  CHECK_EQ(counted, 4000);
  for (int first = 0; first < kShards; first += 5) {
    const int last = std::min(first + 5, kShards);
    const std::vector<RowHead> due = table->Evictable(first, last, 1, SerialFor);
    for (const RowHead& row : due) {
      CHECK_LT(row.show, 4.0);
      CHECK_EQ(row.show, static_cast<double>(row.key % 8));
      CHECK_EQ(row.slot, static_cast<int32_t>(row.key % 3));
      CHECK_TRUE(table.Inspect(row.key).found);  // A list changes nothing.
    }
    CHECK_TRUE(KeysOf(due) == KeysOf(EndRange(&table, first, last, 1)));
    CHECK_TRUE(table->Evictable(first, last, 1, SerialFor).empty());
    CHECK_TRUE(EndRange(&table, first, last, 1).empty());
  }
  CHECK_EQ(table.Statistic("rows"), 4000.0);
  CHECK_EQ(table.Statistic("evicted"), 4000.0);
  CHECK_EQ(table.Inspect(7).show, 3.5);  // aged once
  CHECK_TRUE(table->CountEvictable(1, SerialFor).empty());
  CHECK_EQ(table->Evictable(0, kShards, 2, SerialFor).size(), 4000u);
}

TEST(OnlyWhatWasAnnouncedLeavesAndOnlyIfItIsStillDue) {
  TestedTable table(kOptions);
  Fill(&table, 80);
  const std::vector<RowHead> due = table->Evictable(0, kShards, 1, SerialFor);
  CHECK_EQ(due.size(), 40u);
  table.Push({{.key = 1, .show = 9, .click = 0, .gradient = 0, .slot = 1},       // saved
              {.key = 1000, .show = 1, .click = 0, .gradient = 0, .slot = 1}});  // came too late
  std::set<uint64_t> expected = KeysOf(due);
  expected.erase(1);
  CHECK_TRUE(KeysOf(EndRange(&table, 0, kShards, 1, ListOf(due))) == expected);
  CHECK_EQ(table.Inspect(1).show, 5.0);
  CHECK_EQ(table.Inspect(1000).show, 0.5);  // It aged with the others.
  CHECK_EQ(table.Inspect(1000).unseen_days, 1);
  CHECK_TRUE(KeysOf(EndRange(&table, 0, kShards, 2)).count(1000) == 1);
}

TEST(NothingLeavesIfNothingWasAnnounced) {
  TestedTable table(kOptions);
  Fill(&table, 80);
  CHECK_TRUE(EndRange(&table, 0, kShards, 1, std::vector<uint64_t>()).empty());
  CHECK_EQ(table.Statistic("rows"), 80.0);
  CHECK_EQ(table.Inspect(7).show, 3.5);
}

TEST(AnInterruptedDayEndsLikeAWholeOne) {
  TestedTable whole(kOptions), interrupted(kOptions);
  for (TestedTable* table : {&whole, &interrupted}) Fill(table, 2000);
  for (int day = 1; day <= 2; ++day) {
    const int64_t evicted = whole.EndOfDay(day);
    int64_t left = EndRange(&interrupted, 3, 9, day).size();
    left += EndRange(&interrupted, 0, 5, day).size();
    CHECK_EQ(left + interrupted.EndOfDay(day), evicted);
    for (uint64_t key = 1; key <= 2000; ++key) {
      CHECK_EQ(whole.Inspect(key).found, interrupted.Inspect(key).found);
      CHECK_EQ(whole.Inspect(key).show, interrupted.Inspect(key).show);
      CHECK_EQ(whole.Inspect(key).unseen_days, interrupted.Inspect(key).unseen_days);
    }
    CHECK_EQ(whole.Statistic("show"), interrupted.Statistic("show"));
    CHECK_EQ(whole.Statistic("evicted"), interrupted.Statistic("evicted"));
  }
}

// Other threads pull from all shards between the ends of any two shards: no lock is held for
// longer.
TEST(PullsGoOnWhileADayEnds) {
  std::atomic<int64_t> pulls{0};
  std::atomic<bool> done{false}, stuck{false};
  TestedTable table("mf_dim=2;num_shards=16;accessor.delete_threshold=4",
                    [&](int64_t total, int64_t, const std::function<void(int64_t, int64_t)>& work) {
                      for (int64_t shard = 0; shard < total; ++shard) {
                        work(shard, shard + 1);
                        // The second of them began after this shard had ended.
                        const int64_t wanted = pulls + 2;
                        const auto deadline =
                            std::chrono::steady_clock::now() + std::chrono::seconds(10);
                        while (pulls < wanted && !stuck) {
                          std::this_thread::yield();
                          if (std::chrono::steady_clock::now() > deadline) stuck = true;
                        }
                      }
                    });
  std::vector<uint64_t> keys;
  for (uint64_t key = 1; key <= 2000; ++key) keys.push_back(key);
  std::vector<float> rows(keys.size() * table->row_width());
  std::thread puller([&] {
    while (!done) {
      table->Pull(keys.data(), keys.size(), rows.data(), table->row_width(), SerialFor);
      ++pulls;
    }
  });
  Fill(&table, 2000);
  for (int day = 1; day <= 3; ++day) {
    table.EndOfDay(day);
    table->CountEvictable(day + 1, SerialFor);
  }
  done = true;
  puller.join();
  CHECK_FALSE(stuck);
}

// Each key gets one show, so it is either returned once or still there.
TEST(WhatLeavesIsHandedOutOnceUnderFire) {
  constexpr int kThreads = 3, kBatches = 20, kRows = 500;
  TestedTable table(
      "mf_dim=2;num_shards=16;accessor.nonclk_coeff=1;accessor.delete_threshold=4;"
      "accessor.create_threshold=0");
  std::atomic<int> running{kThreads};
  std::vector<std::thread> pushers;
  for (int t = 0; t < kThreads; ++t) {
    pushers.emplace_back([&, t] {
      std::vector<PushedRow> rows(kRows);
      std::vector<uint64_t> keys(kRows);
      for (int i = 0; i < kBatches; ++i) {
        for (int r = 0; r < kRows; ++r) rows[r].key = keys[r] = 1 + r + kRows * (t * kBatches + i);
        table.Push(rows);
        table.Pull(keys);
      }
      --running;
    });
  }
  std::vector<RowHead> left;
  size_t announced = 0;
  // On a busy machine all may be pushed before the first day ends.
  for (int64_t day = 1; running > 0 || left.empty(); ++day) {
    for (int first = 0; first < kShards; first += 4) {
      const std::vector<RowHead> due = table->Evictable(first, first + 4, day, SerialFor);
      const std::vector<RowHead> out = EndRange(&table, first, first + 4, day, ListOf(due));
      const std::set<uint64_t> due_keys = KeysOf(due);
      for (const RowHead& row : out) CHECK_TRUE(due_keys.count(row.key));
      announced += due.size();
      left.insert(left.end(), out.begin(), out.end());
    }
  }
  for (std::thread& pusher : pushers) pusher.join();
  CHECK_EQ(announced, left.size());  // Nothing was pushed twice, so nothing was saved.
  CHECK_GT(left.size(), 0u);
  std::set<uint64_t> all = KeysOf(left);
  for (uint64_t key : table->Keys(0, kShards)) CHECK_TRUE(all.insert(key).second);
  CHECK_EQ(all.size(), 1u * kThreads * kBatches * kRows);
  CHECK_EQ(table.Statistic("evicted"), 1.0 * left.size());
}

}  // namespace tfps
