// What base and delta exports hold, and what their commits leave.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ops/core/table.h"
#include "ops/tests/check.h"
#include "ops/tests/columns_testing.h"
#include "ops/tests/table_testing.h"

namespace tfps {
namespace {

using tfps_test::PushedRow;
using tfps_test::Read;
using tfps_test::TestedTable;

// One show is a score of 1, which a base takes; so is one of 0.5 in a delta.
const char kOptions[] =
    "mf_dim=2;num_shards=4;accessor.nonclk_coeff=1;accessor.clk_coeff=1;"
    "accessor.create_threshold=3;accessor.base_update_threshold=1;"
    "accessor.delta_update_threshold=0.5;accessor.delta_keep_days=1;"
    "accessor.delete_threshold=0.1;accessor.delete_after_unseen_days=2;accessor.decay_rate=0.9";

struct Captured {
  std::vector<uint64_t> keys;
  std::vector<int32_t> slots;
  std::vector<float> rows;
  std::vector<double> delta_scores;
  std::vector<Removal> removed;

  std::set<uint64_t> key_set() const { return {keys.begin(), keys.end()}; }
  std::vector<uint64_t> removed_keys() const {
    std::vector<uint64_t> keys;
    for (const Removal& removal : removed) keys.push_back(removal.key);
    return keys;
  }
  std::set<uint64_t> removed_set() const {
    const auto keys = removed_keys();
    return {keys.begin(), keys.end()};
  }
};

Captured Capture(TestedTable& table, Export which, std::vector<int32_t> slots = {}) {
  Captured captured;
  const auto problem = table->Capture(
      {which, std::move(slots)},
      [&](int64_t rows) -> ExportColumns {
        captured.keys.resize(rows + 1);  // One more: an empty vector has no address.
        captured.slots.resize(rows + 1);
        captured.rows.resize((rows + 1) * table->row_width());
        captured.delta_scores.resize(rows + 1);
        return {captured.keys.data(), captured.slots.data(), captured.rows.data(),
                captured.delta_scores.data(), table->row_width()};
      },
      &captured.removed, SerialFor);
  CHECK_EQ(problem.value_or(""), "");
  captured.keys.pop_back();
  captured.slots.pop_back();
  captured.delta_scores.pop_back();
  return captured;
}

void Commit(TestedTable& table, Export which, const Captured& captured) {
  std::vector<CapturedKey> rows;
  for (size_t i = 0; i < captured.keys.size(); ++i) {
    rows.push_back({captured.keys[i], captured.slots[i], captured.delta_scores[i]});
  }
  table->Commit(which, rows, captured.removed_keys(), SerialFor);
}

PushedRow Row(uint64_t key, float show = 1) { return {.key = key, .show = show, .gradient = 0.5f}; }

using Keys = std::set<uint64_t>;

}  // namespace

TEST(ABaseHoldsTheRowsOfItsPredicateAsTheyArePulled) {
  TestedTable table(kOptions);
  table.Push({Row(1), Row(2, 0.5f), Row(3, 4), Row(4, -2)});
  table.Push({Row(3), Row(4, 4)});
  Captured captured = Capture(table, Export::kBase);
  CHECK_TRUE((captured.key_set() == Keys{1, 3, 4}));
  CHECK_TRUE(captured.removed.empty());
  const std::vector<float> pulled = table.Pull(captured.keys);
  CHECK_TRUE(std::equal(pulled.begin(), pulled.end(), captured.rows.begin()));
  // Nothing has changed, so a second one holds the same.
  CHECK_FALSE(table.Inspect(3).served);
  CHECK_TRUE(Capture(table, Export::kBase).keys == captured.keys);
  Commit(table, Export::kBase, captured);
  CHECK_TRUE(table.Inspect(3).served);
  CHECK_EQ(table.Inspect(3).delta_score, 0);
  CHECK_FALSE(table.Inspect(2).served);
  CHECK_EQ(table.Inspect(2).delta_score, 0.5);
}

TEST(PushesBetweenCaptureAndCommitKeepTheirScores) {
  TestedTable table(kOptions);
  table.Push({Row(1, 2)});
  const Captured base = Capture(table, Export::kBase);
  table.Push({Row(1, 0.75f), Row(2)});
  Commit(table, Export::kBase, base);
  CHECK_EQ(table.Inspect(1).delta_score, 0.75);
  CHECK_TRUE((Capture(table, Export::kDelta).key_set() == Keys{1, 2}));
}

TEST(ADeltaHoldsWhatChangedAndDropsWhatABaseWouldNotHold) {
  TestedTable table(kOptions);
  table.Push({Row(1), Row(2, 2), Row(3, 2), Row(4, 2)});
  Commit(table, Export::kBase, Capture(table, Export::kBase));
  CHECK_TRUE(Capture(table, Export::kDelta).keys.empty());
  table.Push({Row(2), Row(3, 0.25f), Row(5), Row(6, 0.5f)});
  table.EndOfDay(1);  // The score of 1 falls below that of a base.
  const Captured delta = Capture(table, Export::kDelta);
  CHECK_TRUE((delta.key_set() == Keys{2}));  // 5 and 6 score too low now.
  CHECK_TRUE((delta.removed_set() == Keys{1}));
  Commit(table, Export::kDelta, delta);
  CHECK_FALSE(table.Inspect(1).served);
  CHECK_TRUE(table.Inspect(3).served);
  CHECK_EQ(table.Inspect(3).delta_score, 0.25);
  CHECK_TRUE(Capture(table, Export::kDelta).removed.empty());
}

TEST(EvictedServedRowsAreRemovedOnceADeltaOrABaseIsDurable) {
  TestedTable table(kOptions);
  table.Push({Row(1, 2), Row(2, 2), Row(3, 0.5f)});
  Commit(table, Export::kBase, Capture(table, Export::kBase));
  for (int day = 1; day <= 3; ++day) table.EndOfDay(day);
  table.EndOfDay(4);
  CHECK_FALSE(table.Inspect(1).found);
  table.Push({Row(2, 2)});  // It is back.
  const Captured delta = Capture(table, Export::kDelta);
  CHECK_TRUE((delta.key_set() == Keys{2}));
  CHECK_TRUE((delta.removed_set() == Keys{1}));
  CHECK_TRUE((Capture(table, Export::kDelta).removed_set() == Keys{1}));
  CHECK_TRUE((Capture(table, Export::kBase).removed_set() == Keys{1}));
  Commit(table, Export::kDelta, delta);
  for (int shard = 0; shard < 4; ++shard) CHECK_TRUE(Read(*table, shard).state.removals.empty());
}

TEST(ABaseMakesEveryOtherRowUnserved) {
  TestedTable table(kOptions);
  table.Push({Row(1), Row(2, 4)});
  Commit(table, Export::kBase, Capture(table, Export::kBase));
  table.EndOfDay(1);
  const Captured base = Capture(table, Export::kBase);
  CHECK_TRUE((base.key_set() == Keys{2}));
  for (int shard = 0; shard < 4; ++shard) Read(*table, shard);
  Commit(table, Export::kBase, base);
  CHECK_FALSE(table.Inspect(1).served);
  CHECK_TRUE(Capture(table, Export::kDelta).removed.empty());
  // Both are in the next incremental checkpoint.
  Keys touched;
  for (int shard = 0; shard < 4; ++shard) {
    const auto columns = Read(*table, shard, Rows::kTouched);
    touched.insert(columns.keys.begin(), columns.keys.end());
  }
  CHECK_TRUE((touched == Keys{1, 2}));
}

TEST(ACapturedRowThatWasEvictedBeforeTheCommitIsRemovedLater) {
  TestedTable table(kOptions);
  table.Push({Row(1, 2)});
  const Captured base = Capture(table, Export::kBase);
  for (int day = 1; day <= 4; ++day) table.EndOfDay(day);
  CHECK_FALSE(table.Inspect(1).found);
  Commit(table, Export::kBase, base);
  CHECK_TRUE((Capture(table, Export::kDelta).removed_set() == Keys{1}));
}

TEST(AnExportOfSomeSlotsHoldsTheirRowsAndRemovals) {
  TestedTable table(kOptions);
  const auto in_slot = [](uint64_t key, int32_t slot, float show = 2) {
    return PushedRow{.key = key, .show = show, .gradient = 0.5f, .slot = slot};
  };
  table.Push({in_slot(1, 7), in_slot(2, 3), in_slot(3, 5), in_slot(4, 3)});
  const Captured base = Capture(table, Export::kBase, {3, 7});
  CHECK_TRUE((base.key_set() == Keys{1, 2, 4}));
  for (size_t i = 0; i < base.keys.size(); ++i) CHECK_EQ(base.slots[i], base.keys[i] == 1 ? 7 : 3);
  Commit(table, Export::kBase, base);
  CHECK_FALSE(table.Inspect(3).served);
  CHECK_EQ(table.Inspect(3).delta_score, 2);
  table.Push({in_slot(2, 3), in_slot(3, 5)});
  CHECK_TRUE((Capture(table, Export::kDelta, {5}).key_set() == Keys{3}));
  // Key 1 leaves, and so does 4 from what a base would hold.
  table.EndOfDay(1);
  table.EndOfDay(2);
  const Captured user = Capture(table, Export::kDelta, {7});
  CHECK_TRUE((user.removed_set() == Keys{1}));
  for (int day = 3; day <= 4; ++day) table.EndOfDay(day);
  CHECK_FALSE(table.Inspect(1).found);
  CHECK_TRUE(Capture(table, Export::kDelta, {5}).removed.empty());
  CHECK_TRUE(Capture(table, Export::kDelta, {7}).removed == (std::vector<Removal>{{1, 7}}));
  const Captured both = Capture(table, Export::kDelta, {3, 7});
  CHECK_TRUE((both.removed_set() == Keys{1, 2, 4}));
  Commit(table, Export::kDelta, Capture(table, Export::kDelta, {7}));
  CHECK_TRUE((Capture(table, Export::kDelta).removed_set() == Keys{2, 4}));
  // A base begins anew, whatever its slots.
  Commit(table, Export::kBase, Capture(table, Export::kBase, {7}));
  CHECK_TRUE(Capture(table, Export::kDelta).removed.empty());
}

}  // namespace tfps
