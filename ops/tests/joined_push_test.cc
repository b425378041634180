// Slots that read the rows of others: what a worker merges, and what a table makes of it.
#include "ops/core/joined_push.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "ops/core/make_push.h"
#include "ops/tests/buffer.h"
#include "ops/tests/check.h"
#include "ops/tests/table_testing.h"

namespace tfps {
namespace {

using tfps_test::Buffer;
using tfps_test::TestedTable;

constexpr float kNoStep = kFrozen;
constexpr char kOptions[] =
    "mf_dim=1;num_shards=4;accessor.create_threshold=1;accessor.nonclk_coeff=1;accessor.delete_"
    "threshold=0;"
    "lr.optimizer=sgd;mf.optimizer=sgd;lr.learning_rate=1;mf.learning_rate=1;mf_init_range=0";

struct Row {
  uint64_t key;
  int32_t reader;
  float show, click, gradient;
  float step_show = -1;  // -1: show
};

// A batch with readers, two gradients a row, all of slot 3; references are 100 and up.
struct ReadBatch {
  explicit ReadBatch(const std::vector<Row>& rows) {
    for (const Row& row : rows) {
      keys.push_back(row.key);
      slots.push_back(3);
      readers.push_back(row.reader);
      references.push_back(static_cast<uint32_t>(100 + references.size()));
      show.push_back(row.show);
      click.push_back(row.click);
      step_show.push_back(row.step_show == -1 ? row.show : row.step_show);
      gradients.insert(gradients.end(), 2, row.gradient);
    }
  }

  PushBatch View() const {
    return {static_cast<int64_t>(keys.size()),
            2,
            keys.data(),
            slots.data(),
            show.data(),
            click.data(),
            gradients.data(),
            references.data(),
            step_show.data(),
            readers.data()};
  }

  std::vector<uint64_t> keys;
  std::vector<int32_t> slots, readers;
  std::vector<uint32_t> references;
  std::vector<float> show, click, step_show, gradients;
};

// What a worker sends of two lookups that are parts of one pull of the keys 1, 2 and 3: the first
// has 1, 1 and 2 in its bags, and the second, of `reader`, 2, 2, 2 and 3.
struct TwoParts {
  explicit TwoParts(int32_t reader, bool frozen = false) {
    PushedLookup own, other;
    own.parts = other.parts = {{3, keys, slots, nullptr, 9}};
    own.bags = {own_positions, 3, own_splits, 1, 2};
    other.bags = {other_positions, 4, other_splits, 1, 2};
    own.gradients = own_gradients;
    other.gradients = other_gradients;
    own.width = other.width = 2;
    other.reader = reader;
    other.frozen = frozen;
    input.lookups = {own, other};
    input.show = show;
    input.click = click;
    input.scale = 1;
    input.dtype = WireDtype::kFloat32;
  }

  Buffer Message() const {
    const PushMaker maker(input);
    Buffer buffer(maker.Bytes(0));
    maker.Write(0, buffer.data());
    return buffer;
  }

  const int64_t keys[3] = {1, 2, 3};
  const int32_t slots[3] = {3, 3, 3};
  const int32_t own_positions[3] = {0, 0, 1}, other_positions[4] = {1, 1, 1, 2};
  const int64_t own_splits[3] = {0, 2, 3}, other_splits[3] = {0, 1, 4};
  const float own_gradients[6] = {4, 4, 6, 6, 50, 50}, other_gradients[6] = {70, 70, 9, 9, 5, 5};
  const float show[2] = {1, 1}, click[2] = {1, 0};
  MakePushInput input;
};

void Apply(Buffer buffer, TestedTable* table, bool accumulate = false) {
  PushMessage message;
  CHECK_EQ(ReadPush(buffer.data(), buffer.size, &message), "");
  CHECK_EQ((*table)->ApplyMessage(message, accumulate, SerialFor).value_or(""), "");
}

}  // namespace

TEST(EachReadersGradientHasItsOwnScale) {
  const ReadBatch rows({{7, 0, 2, 1, 8}, {8, 0, 4, 0, 4}, {7, -1, 10, 5, 30}, {7, 2, 4, 3, 2}});
  for (const bool per_show : {true, false}) {
    const JoinedPush joined(rows.View(), per_show ? GradientScale::kPerShow : GradientScale::kSum);
    const PushBatch& batch = joined.batch();
    CHECK_EQ(batch.n, 2);
    CHECK_EQ(batch.keys[0], 7u);
    CHECK_EQ(batch.slots[0], 3);
    CHECK_EQ(batch.references[0], 100u);
    CHECK_EQ(batch.references[1], 101u);
    CHECK_EQ(batch.show[0], 6.0f);
    CHECK_EQ(batch.click[0], 4.0f);
    CHECK_EQ(batch.step_show[0], 1.0f);
    CHECK_EQ(batch.gradients[0], per_show ? 8.0f / 2 + 2.0f / 4 + 30.0f / 10 : 40.0f);
    // What one reader alone has is left as it is.
    CHECK_EQ(batch.step_show[1], 4.0f);
    CHECK_EQ(batch.gradients[2], 4.0f);
    CHECK_EQ(batch.uncounted, 0);
    CHECK_TRUE(batch.readers == nullptr);
  }
}

TEST(WhatOnlyOthersReadComesLastWhereverItWas) {
  const ReadBatch rows({{5, -1, 3, 1, 6}, {6, 1, 1, 1, 2}, {5, -2, 2, 1, 2}, {4, -2, 2, 1, 2}});
  const JoinedPush joined(rows.View(), GradientScale::kPerShow);
  const PushBatch& batch = joined.batch();
  CHECK_EQ(batch.n, 3);
  CHECK_EQ(batch.uncounted, 2);
  CHECK_TRUE(batch.Counts(0) && !batch.Counts(1) && !batch.Counts(2));
  CHECK_EQ(batch.keys[0], 6u);
  CHECK_EQ(batch.keys[1], 5u);
  CHECK_EQ(batch.show[1], 0.0f);
  CHECK_EQ(batch.click[1], 0.0f);
  CHECK_EQ(batch.gradients[2], 3.0f);
  CHECK_EQ(batch.step_show[2], 2.0f);
}

TEST(AFrozenReaderAddsItsCountsOnly) {
  const ReadBatch rows({{5, 0, 2, 1, NAN, kNoStep},
                        {5, -1, 3, 0, 6},
                        {6, 0, 1, 0, 2},
                        {6, 1, 1, 0, NAN, kNoStep},
                        {7, 0, 1, 0, NAN, kNoStep},
                        {7, -1, 1, 0, NAN, kNoStep}});
  const JoinedPush joined(rows.View(), GradientScale::kPerShow);
  const PushBatch& batch = joined.batch();
  CHECK_EQ(batch.show[0], 2.0f);
  CHECK_EQ(batch.gradients[0], 6.0f);
  CHECK_EQ(batch.step_show[0], 3.0f);
  CHECK_EQ(batch.show[1], 2.0f);
  CHECK_EQ(batch.gradients[2], 2.0f);
  CHECK_EQ(batch.step_show[1], 1.0f);
  CHECK_TRUE(IsFrozen(batch.step_show[2]));
}

TEST(APartOfAPullHasOnlyWhatIsInItsBags) {
  for (const int32_t reader : {-1, 2}) {
    Buffer buffer = TwoParts(reader).Message();
    PushMessage message;
    CHECK_EQ(ReadPush(buffer.data(), buffer.size, &message), "");
    CHECK_EQ(message.shape.n, 4);
    CHECK_EQ(message.shape.reader_runs, 2u);
    const DecodedPush push(message);
    const PushBatch& batch = push.batch();
    int seen = 0;
    for (int64_t i = 0; i < batch.n; ++i) {
      const bool own = batch.readers[i] == kOwnSlot;
      CHECK_TRUE(own || batch.readers[i] == reader);
      CHECK_NE(batch.keys[i], own ? 3u : 1u);
      if (batch.keys[i] != 2) continue;
      seen += own ? 1 : 10;
      CHECK_EQ(batch.show[i], own ? 1.0f : 3.0f);
      CHECK_EQ(batch.click[i], own ? 0.0f : 1.0f);
      CHECK_EQ(batch.gradients[2 * i], own ? 6.0f : 9.0f);
    }
    CHECK_EQ(seen, 11);
  }
}

TEST(AReaderThatDoesNotCountMakesNoRowAndAdmitsNone) {
  for (const bool accumulate : {false, true}) {
    TestedTable table(kOptions);
    table.Push({{2, 0.5f, 0, 0, 3}});  // 2 is there, and not admitted
    CHECK_EQ(table.EndOfDay(0), 0);
    const double show = table.Inspect(2).show;
    TwoParts parts(-1);
    parts.input.lookups.erase(parts.input.lookups.begin());
    Apply(parts.Message(), &table, accumulate);
    if (accumulate) {
      int64_t rows = 0;
      CHECK_EQ(table->ApplyAccumulated(SerialFor, &rows).value_or(""), "");
      CHECK_EQ(rows, 2);
    }
    const auto row = table.Inspect(2);
    CHECK_FALSE(table.Inspect(3).found || table.Inspect(1).found);
    CHECK_EQ(row.show, show);
    CHECK_EQ(row.unseen_days, 0);
    CHECK_FALSE(row.admitted);
    CHECK_EQ(row.floats[0], -3.0f);
    CHECK_EQ(table.Statistic("show"), show);
    CHECK_EQ(table.Statistic("rows"), 1.0);
  }
}

TEST(AccumulatedReadersAreScaledByAllTheirShows) {
  TestedTable table(kOptions);
  for (int i = 0; i < 3; ++i) Apply(TwoParts(-1).Message(), &table, true);
  for (int i = 0; i < 2; ++i) Apply(TwoParts(1, true).Message(), &table, true);
  int64_t rows = 0;
  CHECK_EQ(table->ApplyAccumulated(SerialFor, &rows).value_or(""), "");
  CHECK_EQ(rows, 3);
  // Key 2: five times 1 show of its own slot, three times 3 that do not count, and twice 3 that do.
  const auto row = table.Inspect(2);
  CHECK_EQ(row.show, 11.0);
  CHECK_EQ(row.floats[0], -(6.0f + 3.0f));
  CHECK_TRUE(table.Inspect(3).found);
  CHECK_EQ(table.Inspect(3).show, 2.0);
}

TEST(ManyReadersAtRandomAreOneStepOfEachRow) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<Row> rows;
    for (uint64_t key = 1; key <= 40; ++key) {
      for (const int32_t reader : {0, 1, -2, -3}) {
        if (random() % 2) continue;
        const float show = 1 << random() % 4;
        rows.push_back({key, reader, show, 0, static_cast<float>(random() % 64)});
      }
    }
    const ReadBatch batch(rows);
    const JoinedPush joined(batch.View(), GradientScale::kPerShow);
    TestedTable table(kOptions);
    CHECK_EQ(table->Push(joined.batch(), SerialFor).value_or(""), "");
    for (uint64_t key = 1; key <= 40; ++key) {
      double show = 0, step = 0;
      bool counts = false;
      for (const Row& row : rows) {
        if (row.key != key) continue;
        step += row.gradient / row.show;
        counts |= row.reader >= 0;
        if (row.reader >= 0) show += row.show;
      }
      const auto found = table.Inspect(key);
      CHECK_EQ(found.found, counts);
      if (!counts) continue;
      CHECK_EQ(found.show, show);
      CHECK_EQ(found.floats[0], static_cast<float>(std::max(-step, -10.0)));
    }
  }
}

}  // namespace tfps
