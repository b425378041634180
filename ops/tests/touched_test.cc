// An incremental checkpoint holds the rows that were touched, and only those.
#include <algorithm>
#include <random>
#include <set>

#include "ops/core/table.h"
#include "ops/tests/check.h"
#include "ops/tests/columns_testing.h"
#include "ops/tests/table_testing.h"

namespace tfps {
namespace {

using tfps_test::Columns;
using tfps_test::PushedRow;
using tfps_test::Read;
using tfps_test::TestedTable;
using tfps_test::Write;

// Three slots, with rows of four sizes.
const char kOptions[] =
    "mf_dim=3;num_shards=2;accessor.create_threshold=1;accessor.delete_threshold=0.3;"
    "slot.2.mf_dim=9;slot.3.mf.optimizer=adam";

std::set<uint64_t> TouchedKeys(TestedTable& table) {
  std::set<uint64_t> keys;
  for (int shard = 0; shard < 2; ++shard) {
    const Columns columns = Read(*table, shard, Rows::kTouched);
    CHECK_FALSE(columns.state.whole);
    keys.insert(columns.keys.begin(), columns.keys.end());
    for (const uint16_t flags : columns.flags) CHECK_EQ(flags & ~kSavedFlags, 0);
  }
  return keys;
}

void ReadAll(TestedTable& table) {
  for (int shard = 0; shard < 2; ++shard) Read(*table, shard);
}

PushedRow Row(uint64_t key, float click = 0) {
  return {.key = key, .click = click, .gradient = 0.5f, .slot = static_cast<int32_t>(1 + key % 3)};
}

}  // namespace

TEST(TouchedRowsAreThosePushedSinceTheLastReading) {
  TestedTable table(kOptions);
  std::mt19937_64 random(3);
  std::vector<PushedRow> batch;
  for (uint64_t key = 1; key <= 5000; ++key) batch.push_back(Row(key, key % 2));
  table.Push(batch);
  // Before the first reading there is nothing that the others could be put over.
  CHECK_TRUE(Read(*table, 0, Rows::kTouched).state.whole);
  Read(*table, 1);
  CHECK_TRUE(TouchedKeys(table).empty());
  for (int round = 0; round < 20; ++round) {
    std::set<uint64_t> pushed;
    batch.clear();
    for (int i = 0; i < 50 * round; ++i) {
      const uint64_t key = 1 + random() % 8000;  // Some are new, some are admitted by the push.
      pushed.insert(key);
      batch.push_back(Row(key, random() % 2));
    }
    table.Push(batch);
    CHECK_TRUE(TouchedKeys(table) == pushed);
    CHECK_TRUE(TouchedKeys(table).empty());
  }
}

TEST(ADaysEndTouchesEveryRow) {
  TestedTable table(kOptions);
  table.Push({Row(1, 1), Row(2, 1), Row(3, 1)});
  ReadAll(table);
  table.Push({Row(1, 1)});
  table.EndOfDay(5);
  int64_t rows = 0;
  for (int shard = 0; shard < 2; ++shard) {
    const Columns columns = Read(*table, shard, Rows::kTouched);
    CHECK_TRUE(columns.state.whole);
    rows += columns.size().rows;
  }
  CHECK_EQ(rows, 3);
  CHECK_TRUE(TouchedKeys(table).empty());
}

TEST(WhatWasReadInVainIsReadAgain) {
  TestedTable table(kOptions);
  table.Push({Row(1), Row(2), Row(3)});
  ReadAll(table);
  table.Push({Row(2)});
  TouchedKeys(table);
  for (int shard = 0; shard < 2; ++shard) table->TouchAll(shard);
  for (int shard = 0; shard < 2; ++shard) CHECK_TRUE(Read(*table, shard).state.whole);
  table.Push({Row(3)});
  CHECK_TRUE(TouchedKeys(table) == std::set<uint64_t>{3});
}

TEST(TouchedRowsPutOverTheOldOnesGiveTheNew) {
  TestedTable from(kOptions), to(kOptions);
  std::mt19937_64 random(4);
  for (int round = 0; round < 10; ++round) {
    std::vector<PushedRow> batch;
    for (int i = 0; i < 500; ++i) batch.push_back(Row(1 + random() % 3000, random() % 2));
    from.Push(batch);
    if (round == 6) from.EndOfDay(1);
    for (int shard = 0; shard < 2; ++shard) {
      CHECK_EQ(Write(*to, shard, Read(*from, shard, Rows::kTouched)), "");
    }
    for (const char* name : {"rows", "admitted"}) {
      CHECK_EQ(to.Statistic(name), from.Statistic(name));
    }
    CHECK_NEAR(to.Statistic("show"), from.Statistic("show"), 1e-6);
    for (int shard = 0; shard < 2; ++shard) {
      const Columns columns = Read(*to, shard);
      for (const uint64_t key : columns.keys) {
        const auto a = from.Inspect(key), b = to.Inspect(key);
        CHECK_TRUE(a.found);
        CHECK_EQ(a.show, b.show);
        CHECK_EQ(a.delta_score, b.delta_score);
        CHECK_EQ(a.unseen_days, b.unseen_days);
        CHECK_TRUE(a.floats == b.floats);
      }
    }
  }
  CHECK_EQ(to.EndOfDay(1), 0);  // The stamps came along.
}

TEST(AServedRowThatIsEvictedIsPendingUntilItIsTold) {
  TestedTable table(kOptions), to(kOptions);
  table.Push({Row(1), Row(2), Row(3, 1)});  // 1 and 2 score 0.1, and leave.
  for (int shard = 0; shard < 2; ++shard) {
    Columns columns = Read(*table, shard);
    for (size_t i = 0; i < columns.keys.size(); ++i) {
      if (columns.keys[i] != 2) columns.flags[i] |= kServed;
    }
    CHECK_EQ(Write(*table, shard, columns), "");
  }
  CHECK_EQ(table.EndOfDay(1), 2);
  std::vector<Removal> removals;
  for (int shard = 0; shard < 2; ++shard) {
    const Columns columns = Read(*table, shard, Rows::kTouched);
    CHECK_EQ(Write(*to, shard, columns), "");
    const Columns again = Read(*to, shard);
    CHECK_TRUE(again.state.removals == columns.state.removals);
    removals.insert(removals.end(), again.state.removals.begin(), again.state.removals.end());
  }
  CHECK_TRUE((removals == std::vector<Removal>{{1, 2}}));
}

TEST(UpsertPutsRowsOfAnyShardInOrOver) {
  TestedTable from(kOptions), to(kOptions);
  from.Push({Row(1, 1), Row(2), Row(3, 1), Row(4)});
  to.Push({Row(2, 1), Row(3), Row(9, 1)});
  ReadAll(to);
  for (int shard = 0; shard < 2; ++shard) {
    Columns columns = Read(*from, shard);
    CHECK_EQ(to->Upsert(columns.pointers(), columns.size()).value_or(""), "");
  }
  CHECK_EQ(to.Statistic("rows"), 5.0);
  CHECK_EQ(to.Statistic("admitted"), 3.0);
  CHECK_EQ(to.Statistic("click"), 3.0);
  for (uint64_t key : {1, 2, 3, 4}) {
    CHECK_EQ(to.Inspect(key).admitted, from.Inspect(key).admitted);
    CHECK_TRUE(to.Inspect(key).floats == from.Inspect(key).floats);
  }
  CHECK_TRUE(TouchedKeys(to) == (std::set<uint64_t>{1, 2, 3, 4}));
  Columns columns = Read(*from, 0);
  columns.floats.pop_back();
  CHECK_NE(to->Upsert(columns.pointers(), columns.size())->find("floats"), std::string::npos);
  columns = Read(*from, 0);
  columns.keys[0] = kReservedEmpty;
  CHECK_NE(to->Upsert(columns.pointers(), columns.size())->find("reserved"), std::string::npos);
}

TEST(AShardKnowsItsLoad) {
  TestedTable table(kOptions);
  std::vector<PushedRow> batch;
  for (uint64_t key = 1; key <= 3000; ++key) batch.push_back(Row(key));
  table.Push(batch);
  table.Pull({1, 2, 3, 1});
  const ShardLoad a = table->Load(0), b = table->Load(1);
  CHECK_EQ(a.rows + b.rows, 3000);
  CHECK_EQ(a.pulled_keys + b.pulled_keys, 4);
  CHECK_EQ(static_cast<double>(a.bytes + b.bytes), table.Statistic("bytes"));
}

}  // namespace tfps
