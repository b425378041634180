// References only save look-ups: whether right, stale or made up, a push does the same.
#include <atomic>
#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "ops/core/table.h"
#include "ops/tests/check.h"
#include "ops/tests/table_testing.h"

namespace tfps {
namespace {

using tfps_test::FoundRow;
using tfps_test::PushedRow;
using tfps_test::TestedTable;

constexpr char kOptions[] =
    "mf_dim=4;num_shards=3;accessor.create_threshold=2;accessor.delete_threshold=0.4;"
    "accessor.decay_rate=0.5;mf_init_range=0.5;slot.2.mf_dim=9;slot.3.lr.optimizer=adam";

std::vector<uint32_t> References(TestedTable& table, const std::vector<uint64_t>& keys) {
  std::vector<float> rows(keys.size() * table->row_width());
  std::vector<uint32_t> references(keys.size(), 12345);
  table->Pull(keys.data(), static_cast<int64_t>(keys.size()), rows.data(), table->row_width(),
              SerialFor, references.data());
  CHECK_TRUE(rows == table.Pull(keys));
  return references;
}

void Push(TestedTable& table, const std::vector<PushedRow>& rows,
          const std::vector<uint32_t>& references, const ParallelFor& parallel_for = SerialFor) {
  std::vector<uint64_t> keys;
  std::vector<int32_t> slots;
  std::vector<float> show, click, gradients;
  for (const PushedRow& row : rows) {
    keys.push_back(row.key);
    slots.push_back(row.slot);
    show.push_back(row.show);
    click.push_back(row.click);
    gradients.insert(gradients.end(), table->row_width(), row.gradient);
  }
  const PushBatch batch = {static_cast<int64_t>(rows.size()),
                           table->row_width(),
                           keys.data(),
                           slots.data(),
                           show.data(),
                           click.data(),
                           gradients.data(),
                           references.data()};
  CHECK_EQ(table->Push(batch, parallel_for).value_or(""), "");
}

void CheckSame(const FoundRow& a, const FoundRow& b) {
  CHECK_EQ(a.found, b.found);
  CHECK_EQ(a.admitted, b.admitted);
  CHECK_EQ(a.slot, b.slot);
  CHECK_EQ(a.unseen_days, b.unseen_days);
  CHECK_EQ(a.show, b.show);
  CHECK_EQ(a.click, b.click);
  CHECK_EQ(a.delta_score, b.delta_score);
  CHECK_TRUE(a.floats == b.floats);
}

// Some rows reuse the memory of rows that are gone: chunks of three sizes.
const std::vector<SizeClass> kSizes = {SizeClass(48), SizeClass(96), SizeClass(64)};

}  // namespace

TEST(APlaceHasItsRow) {
  for (int places = 3; places <= 1024; ++places) {
    const SizeClass size_class(16 * places);
    for (uint32_t place = 0; place < 1024; ++place) {
      const auto row = size_class.RowAt(place);
      if (row != place / places) CHECK_EQ(row, place / places);
    }
  }
}

TEST(OnlyTheHandleOfARowInUseFindsItAndOnlyByItsKey) {
  Readers readers(1);
  ChunkPool pool(&readers);
  std::vector<uint32_t> dirty;
  for (int i = 0; i < 40; ++i) {
    dirty.push_back(pool.Allocate());
    // Whatever place one looks at, there lies a key that is looked for.
    for (size_t at = 0; at < ChunkPool::kChunkBytes; at += 8) {
      const uint64_t key = 1 + (at / 8 + i) % 500;
      std::memcpy(pool.At(dirty.back()) + at, &key, sizeof(key));
    }
  }
  for (uint32_t chunk : dirty) pool.Free(chunk);
  Arena arena(&kSizes, &pool, 0), other(&kSizes, &pool, 1);
  for (uint64_t key = 1; key <= 500; ++key) other.Allocate(key, key % 3);
  // Whole heads only.
  const uint32_t places = pool.num_chunks() * (ChunkPool::kChunkBytes / ChunkPool::kPlaceBytes) - 3;
  std::mt19937 random(3);
  std::map<uint32_t, uint64_t> rows;
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 700; ++i) {
      const uint64_t key = 1 + random() % 500;
      const uint32_t handle = arena.Allocate(key, random() % 3);
      std::memset(Floats(arena.At(handle)), 1, 8);
      rows[handle] = key;
    }
    const bool all = round % 3 == 2;
    for (auto at = rows.begin(); at != rows.end();) {
      if (!all && random() % 2) {
        ++at;
        continue;
      }
      arena.Free(at->first);
      at = rows.erase(at);
    }
    size_t found = 0;
    for (uint32_t handle = 0; handle < places; ++handle) {
      const uint64_t there = arena.At(handle)->key;
      if (there == 0) continue;
      const RowHead* row = arena.FindAt(handle, there);
      const auto expected = rows.find(handle);
      CHECK_EQ(row != nullptr, expected != rows.end());
      CHECK_TRUE(arena.FindAt(handle, there + 1) == nullptr);
      found += row != nullptr;
    }
    CHECK_EQ(found, rows.size());
    for (int i = 0; i < 100000; ++i) {
      const uint32_t handle = random();
      if (rows.count(handle) == 0) CHECK_TRUE(arena.FindAt(handle, 1 + i % 500) == nullptr);
    }
    CHECK_TRUE(arena.FindAt(Arena::kNone, 1) == nullptr);
  }
}

TEST(APullTellsWhereRowsAre) {
  TestedTable table(kOptions);
  table.Push({{1}, {2}, {3, 1, 0, 0, 2}});
  const auto references = References(table, {0, 1, 9, 2, kReservedEmpty, 3, 1});
  CHECK_EQ(references[0], Arena::kNone);
  CHECK_EQ(references[2], Arena::kNone);
  CHECK_EQ(references[4], Arena::kNone);
  for (const int i : {1, 3, 5, 6}) CHECK_NE(references[i], Arena::kNone);
  CHECK_EQ(references[1], references[6]);
}

TEST(APushByReferenceIsThatByKeyWhateverTheReferencesAre) {
  for (int seed = 0; seed < 30; ++seed) {
    std::mt19937_64 random(seed);
    TestedTable with(kOptions), without(kOptions);
    std::map<uint64_t, std::vector<uint32_t>> seen;  // references that a key ever had
    std::vector<uint32_t> all = {0, Arena::kNone};
    int64_t right = 0;
    for (int step = 0; step < 120; ++step) {
      std::vector<PushedRow> rows;
      std::vector<uint32_t> references;
      for (int i = 0; i < 40; ++i) {
        const uint64_t key = random() % 300;
        rows.push_back({key, 1.0f + random() % 3, float(random() % 2), 0.1f * (random() % 7),
                        static_cast<int32_t>(1 + key % 3)});
        const std::vector<uint32_t>& own = seen[key];
        switch (random() % 6) {
          case 0: references.push_back(static_cast<uint32_t>(random())); break;
          case 1: references.push_back(static_cast<uint32_t>(random() % 8192)); break;
          case 2:
            references.push_back(all[random() % all.size()]);  // of another key
            break;
          case 3:
            references.push_back(own.empty() ? Arena::kNone : own[random() % own.size()]);
            break;
          default:
            references.push_back(own.empty() ? Arena::kNone : own.back());
            right += !own.empty();
        }
      }
      Push(with, rows, references);
      without.Push(rows);
      std::vector<uint64_t> keys;
      for (int i = 0; i < 30; ++i) keys.push_back(random() % 300);
      const auto pulled = References(with, keys);
      for (int i = 0; i < 30; ++i) {
        seen[keys[i]].push_back(pulled[i]);
        all.push_back(pulled[i]);
      }
      if (random() % 5 == 0) CHECK_EQ(with.EndOfDay(step), without.EndOfDay(step));
    }
    CHECK_GT(right, 100);
    CHECK_GT(with.Statistic("evicted"), 100.0);
    CHECK_GT(with.Statistic("admitted"), 10.0);
    for (uint64_t key = 0; key < 300; ++key) CheckSame(with.Inspect(key), without.Inspect(key));
    for (const auto& [name, value] : without->Statistics()) {
      if (name != "pulled_keys") CHECK_EQ(with.Statistic(name), value);
    }
  }
}

TEST(TheRowOfAnotherKeyInAnOldPlaceIsLeftAlone) {
  TestedTable table("mf_dim=4;num_shards=1;accessor.delete_threshold=0.15");
  table.Push({{1, 1, 0}});
  const uint32_t old = References(table, {1})[0];
  CHECK_EQ(table.EndOfDay(0), 1);
  table.Push({{2, 1, 1}});
  CHECK_EQ(References(table, {2})[0], old);  // its place was used again
  Push(table, {{1, 3, 0}}, {old});
  CHECK_EQ(table.Inspect(2).show, 1.0);
  CHECK_EQ(table.Inspect(1).show, 3.0);
}

TEST(ARowThatWasAdmittedMeanwhileIsFound) {
  TestedTable table("mf_dim=4;num_shards=1;accessor.create_threshold=1");
  table.Push({{1, 1, 0}});
  const uint32_t old = References(table, {1})[0];
  Push(table, {{1, 1, 1}}, {old});  // admits it: the index must find it afterwards
  CHECK_TRUE(table.Inspect(1).admitted);
  CHECK_NE(References(table, {1})[0], old);
  Push(table, {{1, 1, 1}}, {old});
  CHECK_EQ(table.Inspect(1).show, 3.0);
  CHECK_EQ(table.Statistic("rows"), 1.0);
}

TEST(ManyThreadsPushByReferencesThatGrowOld) {
  TestedTable table(
      "mf_dim=4;num_shards=8;accessor.create_threshold=3;"
      "accessor.delete_threshold=0.4;accessor.decay_rate=0.9;slot.2.mf_dim=9");
  constexpr int kThreads = 4, kBatches = 60, kRows = 200;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      for (int i = 0; i < kBatches; ++i) {
        std::vector<PushedRow> rows(kRows);
        std::vector<uint64_t> keys;
        for (PushedRow& row : rows) {
          row.key = 1 + random() % 2000;
          row.slot = static_cast<int32_t>(1 + row.key % 2);
          keys.push_back(row.key);
        }
        const auto references = [&] {
          std::vector<float> pulled(keys.size() * table->row_width());
          std::vector<uint32_t> references(keys.size());
          table->Pull(keys.data(), kRows, pulled.data(), table->row_width(), SerialFor,
                      references.data());
          return references;
        }();
        if (i % 7 == t) table.EndOfDay(i);
        Push(table, rows, references);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(table.Statistic("pushed_keys"), 1.0 * kThreads * kBatches * kRows);
  double show = 0, rows = 0;
  for (uint64_t key = 1; key <= 2000; ++key) {
    show += table.Inspect(key).show;
    rows += table.Inspect(key).found;
  }
  CHECK_NEAR(table.Statistic("show"), show, 1e-6);
  CHECK_EQ(table.Statistic("rows"), rows);
}

}  // namespace tfps
