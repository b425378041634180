#include "ops/core/shard.h"

#include <algorithm>

#include "ops/core/row_copies.h"

namespace tfps {

Shard::Shard(const TableConfig* config, ChunkPool* pool, const Readers* readers, ShardView* view,
             uint32_t number)
    : config_(*config),
      readers_(*readers),
      view_(view),
      number_(number),
      arena_(&config->size_classes(), pool, number),
      index_(pool, &view->packed_buckets, number) {}

uint32_t Shard::PullLocked(uint64_t key, int width, float* out) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const uint32_t handle = Find(SplitMix64(key), key);
  CopyPulled(config_, handle == Arena::kNone ? nullptr : arena_.At(handle), width, out);
  return handle;
}

bool Shard::PushOne(const PushItem& item, uint32_t guess, const RowPush& push) {
  uint32_t handle = guess;
  RowHead* row = nullptr;
  if (guess != Arena::kNone) {
    // If the row has moved since then, there is no key at its old place.
    row = arena_.At(guess);
    if (row->key != item.key) row = nullptr;
  } else if (item.reference != Arena::kNone) {
    handle = item.reference;
    row = arena_.FindAt(handle, item.key);
  }
  if (row == nullptr) {
    handle = Find(item.hash, item.key);
    if (handle != Arena::kNone) row = arena_.At(handle);
  }
  const bool existed = row != nullptr;
  if (!existed && !push.counts) return true;
  const Policy& policy = config_.PolicyOf(existed ? row->slot : item.slot);
  if (existed) {
    Touch(handle);
  } else {
    row = Create(item.key, item.hash, item.slot, policy,
                 IsAdmittedBy(push, policy.accessor, item.show, item.click));
    if (row == nullptr) return false;
  }
  PushScratch scratch;
  const bool admit =
      UpdateRow(config_.options(), policy, existed, push, row, &scratch, &statistics_);
  // A row that is admitted here existed before: one that its first push admits is created admitted.
  return !admit || Admit(item.hash, handle, policy);
}

uint32_t Shard::AllocateIndexed(uint64_t key, uint64_t hash, int size_class) {
  if (!index_.HasRoom()) {
    // All rows are whole, so pulls need not wait for the larger index.
    view_->EndChange();
    const bool rebuilt = RebuildIndex();
    view_->BeginChange();
    if (!rebuilt) return Arena::kNone;
  }
  const uint32_t handle = arena_.Allocate(key, size_class);
  if (handle != Arena::kNone) index_.Insert(hash, handle);
  return handle;
}

RowHead* Shard::Create(uint64_t key, uint64_t hash, int32_t slot, const Policy& policy,
                       bool admitted) {
  const uint32_t handle = AllocateIndexed(key, hash, policy.size_class[admitted]);
  if (handle == Arena::kNone) return nullptr;
  RowHead* row = arena_.At(handle);
  InitRow(key, slot, policy, row);
  if (admitted) InitMfPart(config_.options(), policy, row);
  Touch(handle);
  ++statistics_.rows;
  statistics_.admitted += admitted;
  return row;
}

// Moves an unadmitted row to the larger size, where its mf vector begins.
bool Shard::Admit(uint64_t hash, uint32_t handle, const Policy& policy) {
  const RowHead* row = arena_.At(handle);
  const uint32_t larger_handle = arena_.Allocate(row->key, policy.size_class[true]);
  if (larger_handle == Arena::kNone) return false;
  RowHead* larger = arena_.At(larger_handle);
  larger->show = row->show;
  larger->click = row->click;
  larger->delta_score = row->delta_score;
  larger->unseen_days = row->unseen_days;
  SetSlot(larger, row->slot);
  SetFlags(larger, row->flags & ~kTouched);
  StoreWeights(Floats(row), policy.layout.head_floats(), Floats(larger));
  InitMfPart(config_.options(), policy, larger);
  Touch(larger_handle);
  ++statistics_.admitted;
  index_.Replace(hash, handle, larger_handle);
  arena_.Free(handle);
  return true;
}

bool Shard::RebuildIndex() {
  return index_.Rebuild(static_cast<uint32_t>(statistics_.rows) + 1, [&](auto visit) {
    arena_.ForEach(
        [&](uint32_t handle, const RowHead* row) { visit(SplitMix64(row->key), handle); });
  });
}

void Shard::Remove(uint64_t hash, uint32_t handle) {
  const RowHead* row = arena_.At(handle);
  --statistics_.rows;
  statistics_.admitted -= IsAdmitted(row);
  index_.Erase(hash, handle);
  arena_.Free(handle);
}

int64_t Shard::EndOfDay(int64_t day, const std::vector<uint64_t>* announced,
                        std::vector<RowHead>* left) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (finished_day_ >= day) return 0;
  const int64_t rows_before = statistics_.rows;
  statistics_.show = statistics_.click = 0;
  // Of what changes here, a pull sees only whether an evicted row is still there.
  arena_.ForEach([&](uint32_t handle, RowHead* row) {
    if (IsDue(config_, row) &&
        (announced == nullptr ||
         std::binary_search(announced->begin(), announced->end(), row->key))) {
      if (left != nullptr) left->push_back(*row);
      if (row->flags & kServed) removals_.push_back({row->key, row->slot});
      Remove(SplitMix64(row->key), handle);
      return;
    }
    config_.PolicyOf(row).accessor.Age(&row->show, &row->click, &row->unseen_days);
    statistics_.show += row->show;
    statistics_.click += row->click;
  });
  const int64_t evicted = rows_before - statistics_.rows;
  statistics_.evicted += evicted;
  // Without memory for a smaller index the large one stays.
  if (index_.IsWasteful(static_cast<uint32_t>(statistics_.rows))) RebuildIndex();
  finished_day_ = day;
  all_touched_ = true;
  return evicted;
}

ShardStatistics Shard::Statistics() const {
  std::lock_guard<std::mutex> lock(mutex_);
  ShardStatistics statistics = statistics_;
  statistics.pulled_keys = readers_.PulledKeys(number_);
  statistics.fullness = config_.Fullness(statistics);
  return statistics;
}

ShardLoad Shard::Load() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {statistics_.rows, arena_.bytes() + index_.bytes(), readers_.PulledKeys(number_)};
}

void Shard::AppendKeys(std::vector<uint64_t>* keys) const {
  std::lock_guard<std::mutex> lock(mutex_);
  arena_.ForEach([&](uint32_t, const RowHead* row) { keys->push_back(row->key); });
}

void Shard::Inspect(uint64_t key, int64_t position, const InspectedRows& out) const {
  std::lock_guard<std::mutex> lock(mutex_);
  CopyInspected(config_, FindRow(key), position, out);
}

void Shard::PullCounts(uint64_t key, float* counts) const {
  std::lock_guard<std::mutex> lock(mutex_);
  CopyCounts(FindRow(key), counts);
}

}  // namespace tfps
