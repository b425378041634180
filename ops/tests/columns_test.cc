#include <algorithm>
#include <cstring>
#include <thread>

#include "ops/core/table.h"
#include "ops/tests/check.h"
#include "ops/tests/columns_testing.h"
#include "ops/tests/table_testing.h"

namespace tfps {
namespace {

using tfps_test::Columns;
using tfps_test::FoundRow;
using tfps_test::PushedRow;
using tfps_test::Read;
using tfps_test::TestedTable;
using tfps_test::Write;

const char kOptions[] =
    "mf_dim=3;num_shards=4;mf_init_range=0.5;accessor.create_threshold=1;"
    "accessor.delete_threshold=0.3;mf.optimizer=adam";

void Fill(TestedTable* table, int rows) {
  std::vector<PushedRow> batch;
  for (int i = 1; i <= rows; ++i) {
    batch.push_back({.key = static_cast<uint64_t>(i) * 7919,
                     .show = 1.0f + i % 3,
                     .click = static_cast<float>(i % 2),
                     .gradient = 0.25f * i,
                     .slot = i % 5});
  }
  table->Push(batch);
  table->Push(batch);
}

void CheckSame(const TestedTable& a, const TestedTable& b, int rows) {
  for (int i = 1; i <= rows; ++i) {
    const FoundRow x = a.Inspect(i * 7919), y = b.Inspect(i * 7919);
    CHECK_EQ(x.found, y.found);
    CHECK_EQ(x.admitted, y.admitted);
    CHECK_EQ(x.served, y.served);
    CHECK_EQ(x.slot, y.slot);
    CHECK_EQ(x.unseen_days, y.unseen_days);
    CHECK_EQ(x.show, y.show);
    CHECK_EQ(x.click, y.click);
    CHECK_EQ(x.delta_score, y.delta_score);
    CHECK_EQ(std::memcmp(x.floats.data(), y.floats.data(), 4 * x.floats.size()), 0);
  }
}

}  // namespace

TEST(RowsComeBackBitForBit) {
  TestedTable from(kOptions), to(kOptions);
  Fill(&from, 3000);
  from.EndOfDay(41);
  Fill(&to, 100);  // Is replaced.
  int64_t rows = 0;
  for (int shard = 0; shard < 4; ++shard) {
    Columns columns = Read(*from, shard);
    CHECK_EQ(columns.state.finished_day, 41);
    for (size_t i = 0; i < columns.flags.size(); i += 2) columns.flags[i] |= kServed;
    rows += columns.size().rows;
    CHECK_EQ(Write(*from, shard, columns), "");  // Onto itself, for the served bits.
    CHECK_EQ(Write(*to, shard, Read(*from, shard)), "");
    for (size_t i = 0; i < columns.keys.size(); ++i) {
      CHECK_EQ(to.Inspect(columns.keys[i]).served, i % 2 == 0);
    }
  }
  CHECK_GT(rows, 1000);
  CheckSame(from, to, 3000);
  CHECK_EQ(to.Statistic("rows"), static_cast<double>(rows));
  for (const char* name : {"admitted", "show", "click"}) {
    CHECK_NEAR(to.Statistic(name), from.Statistic(name), 1e-9 * from.Statistic(name));
  }
  CHECK_GT(to.Statistic("admitted"), 0.0);
  CHECK_LT(to.Statistic("admitted"), static_cast<double>(rows));
  // The stamp came along, and training goes on alike.
  CHECK_EQ(to.EndOfDay(41), 0);
  CheckSame(from, to, 3000);
  Fill(&from, 4000);
  Fill(&to, 4000);
  from.EndOfDay(42);
  to.EndOfDay(42);
  CheckSame(from, to, 4000);
}

TEST(RowsOfSlotsWithTheirOwnLayoutComeBack) {
  const std::string options =
      std::string(kOptions) + ";slot.1.mf_dim=9;slot.2.lr.optimizer=ftrl;slot.3.mf.optimizer=sgd";
  TestedTable from(options), to(options), other(kOptions);
  Fill(&from, 3000);
  int64_t rows = 0;
  for (int shard = 0; shard < 4; ++shard) {
    const Columns columns = Read(*from, shard);
    rows += columns.size().rows;
    CHECK_EQ(Write(*to, shard, columns), "");
    CHECK_NE(Write(*other, shard, columns).find("mf_dim and optimizers"), std::string::npos);
  }
  CHECK_EQ(rows, 3000);
  CheckSame(from, to, 3000);
  CHECK_EQ(other.Statistic("rows"), 0.0);
  Fill(&from, 3000);
  Fill(&to, 3000);
  CheckSame(from, to, 3000);
}

TEST(AnEmptyShardComesBackEmpty) {
  TestedTable from(kOptions), to(kOptions);
  Fill(&to, 100);
  for (int shard = 0; shard < 4; ++shard) CHECK_EQ(Write(*to, shard, Read(*from, shard)), "");
  CHECK_EQ(to.Statistic("rows"), 0.0);
  CHECK_EQ(to.Statistic("show"), 0.0);
  CHECK_FALSE(to.Inspect(7919).found);
  Fill(&to, 100);
  CHECK_EQ(to.Statistic("rows"), 100.0);
}

TEST(RestoringAgainAndAgainTakesNoMoreMemory) {
  TestedTable table(kOptions);
  Fill(&table, 20000);
  const Columns columns = Read(*table, 2);
  CHECK_EQ(Write(*table, 2, columns), "");
  const double bytes = table.Statistic("bytes");
  for (int i = 0; i < 5; ++i) CHECK_EQ(Write(*table, 2, columns), "");
  CHECK_EQ(table.Statistic("bytes"), bytes);
  CHECK_EQ(table.Statistic("rows"), 20000.0);
}

TEST(WhatDoesNotFitIsRefused) {
  TestedTable from(kOptions), to(kOptions);
  Fill(&from, 100);
  Fill(&to, 100);
  Columns columns = Read(*from, 1);
  Columns short_of_floats = columns;
  short_of_floats.floats.pop_back();
  CHECK_NE(Write(*to, 1, short_of_floats).find("floats"), std::string::npos);
  CHECK_NE(Write(*to, 0, columns).find("is none of shard 0 of 4"), std::string::npos);
  for (uint64_t key : {kPadding, kReservedEmpty, kReservedDeleted}) {
    Columns with_key = columns;
    with_key.keys[3] = key;
    CHECK_NE(Write(*to, 1, with_key).find("is none of shard"), std::string::npos);
  }
  CheckSame(from, to, 100);  // Untouched so far.
  Columns twice = columns;
  twice.keys[3] = twice.keys[5];
  CHECK_NE(Write(*to, 1, twice).find("comes twice"), std::string::npos);
  CHECK_EQ(to.Statistic("rows"), 100.0 - columns.keys.size());  // The shard is left empty.
  CHECK_EQ(Write(*to, 1, columns), "");
  CheckSame(from, to, 100);
}

TEST(AShardIsReadAsOfOneMomentWhilePushesGoOn) {
  TestedTable table(
      "mf_dim=1;num_shards=1;lr.optimizer=sgd;lr.learning_rate=1;gradient_scale=sum;"
      "lr.weight_min=-1e6;accessor.create_threshold=20");
  std::thread pushing([&] {
    for (int i = 0; i < 300; ++i) {
      std::vector<PushedRow> batch;
      for (uint64_t key = 1; key <= 40; ++key) batch.push_back({.key = key, .gradient = -1});
      table.Push(batch);
    }
  });
  for (int i = 0; i < 100; ++i) {
    const Columns columns = Read(*table, 0);
    const float* floats = columns.floats.data();
    for (size_t row = 0; row < columns.keys.size(); ++row) {
      // Each push adds one show and one to lr_w, and all rows of a push are in.
      CHECK_EQ(columns.statistics[3 * row], columns.statistics[0]);
      CHECK_EQ(static_cast<double>(floats[0]), std::min(columns.statistics[0], 10.0));
      floats += columns.flags[row] & kAdmitted ? 3 : 1;
    }
  }
  pushing.join();
}

}  // namespace tfps
