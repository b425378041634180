// Many threads use one table: nothing is lost, nothing is torn. Also run under ThreadSanitizer.
#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "ops/core/table.h"
#include "ops/tests/check.h"
#include "ops/tests/table_testing.h"

namespace tfps {
namespace {

using tfps_test::PushedRow;
using tfps_test::TestedTable;

constexpr int kThreads = 4;
constexpr int kBatches = 40;
constexpr int kRows = 500;

// Splits the work over two threads of its own.
void TwoThreads(int64_t total, int64_t, const std::function<void(int64_t, int64_t)>& work) {
  std::thread second(work, total / 2, total);
  work(0, total / 2);
  second.join();
}

std::vector<PushedRow> RandomRows(std::mt19937_64* random, uint64_t keys) {
  std::vector<PushedRow> rows(kRows);
  for (PushedRow& row : rows) {
    row.key = 1 + (*random)() % keys;
    row.gradient = 0.01f;
  }
  return rows;
}

void RunThreads(const std::function<void(int)>& work) {
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) threads.emplace_back(work, t);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST(PushesFromManyThreadsLoseNothing) {
  TestedTable table("mf_dim=4;num_shards=8;accessor.create_threshold=2", TwoThreads);
  RunThreads([&](int t) {
    std::mt19937_64 random(t);
    for (int i = 0; i < kBatches; ++i) {
      table.Push(RandomRows(&random, /*keys=*/50));
      table.Pull({1, 2, 3, 4, 5});
    }
  });
  CHECK_EQ(table.Statistic("show"), 1.0 * kThreads * kBatches * kRows);
  double show = 0;
  for (uint64_t key = 1; key <= 50; ++key) show += table.Inspect(key).show;
  CHECK_EQ(show, 1.0 * kThreads * kBatches * kRows);
  CHECK_EQ(table.Statistic("rows"), 50.0);
}

// A pull sees a row before or after a push, never in between: all weights of a row step alike.
TEST(PullsSeeWholeSteps) {
  TestedTable table(
      "mf_dim=16;num_shards=2;mf_init_range=0;accessor.create_threshold=-inf;gradient_scale=sum;"
      "lr.optimizer=sgd;mf.optimizer=sgd;mf.learning_rate=0.001");
  std::atomic<bool> done{false};
  std::atomic<int> torn{0};
  std::thread reader([&] {
    while (!done) {
      const std::vector<float> row = table.Pull({7});
      for (int d = 2; d <= 16; ++d) torn += row[d] != row[1];
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 3000; ++i) {
    table.Push({{.key = 7, .show = 1, .click = 0, .gradient = i % 2 ? 1.0f : 2.0f}});
  }
  done = true;
  reader.join();
  CHECK_EQ(torn, 0);
}

TEST(GrowthAdmissionAndDaysUnderFire) {
  TestedTable table(
      "mf_dim=4;num_shards=4;accessor.create_threshold=0.3;accessor.delete_threshold=0.15;"
      "accessor.decay_rate=1;accessor.delete_after_unseen_days=65534",
      TwoThreads);
  std::atomic<int64_t> evicted{0};
  std::atomic<bool> done{false};
  std::thread days([&] {
    for (int day = 1; !done; ++day) {
      evicted += table.EndOfDay(day);
      table->Statistics();
      table->Keys(0, 4);
      table.Inspect(3);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  RunThreads([&](int t) {
    std::mt19937_64 random(100 + t);
    std::vector<uint64_t> keys(kRows);
    for (int i = 0; i < kBatches; ++i) {
      table.Push(RandomRows(&random, /*keys=*/20000));
      for (uint64_t& key : keys) key = 1 + random() % 20000;
      table.Pull(keys);
    }
  });
  done = true;
  days.join();
  evicted += table.EndOfDay(int64_t{1} << 40);  // Some keys came only once.
  // Rows are evicted by score only, and with exactly one show: 0.1 is below and 0.2 above the
  // threshold.
  CHECK_GT(evicted, 0);
  CHECK_EQ(table.Statistic("show") + evicted, 1.0 * kThreads * kBatches * kRows);
  CHECK_EQ(table.Statistic("rows"), static_cast<double>(table->Keys(0, 4).size()));
  double admitted = 0, show = 0;
  for (uint64_t key : table->Keys(0, 4)) {
    const auto row = table.Inspect(key);
    CHECK_TRUE(row.found);
    CHECK_EQ(row.admitted, row.show >= 3);
    admitted += row.admitted;
    show += row.show;
  }
  CHECK_EQ(table.Statistic("admitted"), admitted);
  CHECK_EQ(table.Statistic("show"), show);
}

// Pulls take no lock: whatever happens to the rows, each is there whole or not at all. A row's
// weights say which key it is of and that they belong together.
TEST(PullsSeeWholeRowsWhileTheyComeMoveAndGo) {
  TestedTable table(
      "mf_dim=6;num_shards=4;mf_init_range=0;accessor.create_threshold=3;gradient_scale=sum;"
      "accessor.nonclk_coeff=1;accessor.delete_threshold=3.5;accessor.decay_rate=0.9;"
      "lr.optimizer=sgd;lr.learning_rate=1;mf.optimizer=sgd;mf.learning_rate=1;lr.weight_max=1e9;"
      "mf.weight_max=1e9;lr.weight_min=-1e9;mf.weight_min=-1e9",
      TwoThreads);
  constexpr uint64_t kKeys = 3000;
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0}, seen{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; ++t) {
    readers.emplace_back([&, t] {
      std::mt19937_64 random(t);
      std::vector<uint64_t> keys(300);
      while (!done) {
        for (uint64_t& key : keys) key = 1 + random() % kKeys;
        const std::vector<float> rows = table.Pull(keys);
        for (size_t i = 0; i < keys.size(); ++i) {
          const float* row = &rows[7 * i];
          // Every push took one step of -key.
          wrong += std::fmod(row[0], keys[i]) != 0;
          for (int d = 2; d <= 6; ++d) wrong += row[d] != row[1];
          wrong += row[1] > row[0];
          seen += row[1] != 0;
        }
      }
    });
  }
  std::mt19937_64 random(7);
  for (int i = 0; i < kBatches; ++i) {
    std::vector<PushedRow> rows(kRows);
    for (PushedRow& row : rows) {
      row.key = 1 + random() % (i % 4 ? 200 : kKeys);
      row.gradient = -static_cast<float>(row.key);
    }
    table.Push(rows);
    if (i % 4 == 3) table.EndOfDay(i);  // and the memory of most rows is used again
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  CHECK_EQ(wrong, 0);
  CHECK_GT(seen, 0);
}

// Two ends of one day at once age each row once.
TEST(OneDayEndsOnceHoweverManyEndIt) {
  TestedTable table("num_shards=64;accessor.decay_rate=0.5;accessor.delete_threshold=0");
  std::vector<PushedRow> rows;
  for (uint64_t key = 1; key <= 2000; ++key) rows.push_back({.key = key, .show = 8});
  table.Push(rows);
  RunThreads([&](int) { table.EndOfDay(1); });
  for (uint64_t key = 1; key <= 2000; ++key) CHECK_EQ(table.Inspect(key).show, 4.0);
}

}  // namespace tfps
