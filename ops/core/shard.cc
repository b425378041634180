#include "ops/core/shard.h"

#include <algorithm>
#include <mutex>

#include "ops/core/row_copies.h"

namespace tfps {
namespace {

// How many keys ahead of the one in hand their rows are brought into the cache; index entries twice
// as far.
constexpr int kAhead = 16;

void PrefetchBytes(const void* begin, int bytes) {
  const char* at = static_cast<const char*>(begin);
  for (int offset = 0; offset < bytes; offset += 64) __builtin_prefetch(at + offset);
  __builtin_prefetch(at + bytes - 1);
}

}  // namespace

Shard::Shard(const TableConfig* config, ChunkPool* pool)
    : config_(*config), arena_(&config->size_classes(), pool), index_(pool) {}

void Shard::PrefetchRow(uint32_t handle, int most_bytes) const {
  const int bytes =
      config_.one_policy() ? most_bytes : std::min(arena_.RowBytes(handle), most_bytes);
  PrefetchBytes(arena_.At(handle), bytes);
}

void Shard::PrefetchIndexedRow(uint64_t hash, int most_bytes) const {
  const uint32_t entry = *index_.Find(hash, [](uint32_t) { return true; });
  if (entry != 0) PrefetchRow(Index::HandleOf(entry), most_bytes);
}

void Shard::Pull(const KeyAt* keys, int64_t n, float* rows, int width,
                 uint32_t* references) const {
  const int bytes = config_.pulled_bytes();
  std::shared_lock<std::shared_mutex> lock(mutex_);
  for (int64_t i = -kAhead; i < n; ++i) {
    if (i + 2 * kAhead < n) Prefetch(keys[i + 2 * kAhead].key);
    if (i + kAhead < n) {
      const KeyAt& ahead = keys[i + kAhead];
      PrefetchIndexedRow(SplitMix64(ahead.key), bytes);
      PrefetchBytes(rows + int64_t{ahead.position} * width, 4 * width);
    }
    if (i < 0) continue;
    const uint32_t entry = *FindEntry(SplitMix64(keys[i].key), keys[i].key);
    const RowHead* row = entry == 0 ? nullptr : arena_.At(Index::HandleOf(entry));
    if (references != nullptr) {
      references[keys[i].position] = entry == 0 ? Arena::kNone : Index::HandleOf(entry);
    }
    CopyPulled(config_, row, width, rows + int64_t{keys[i].position} * width);
  }
  pulled_keys_.fetch_add(n, std::memory_order_relaxed);
}

bool Shard::Push(const KeyAt* keys, int64_t n, const PushBatch& batch) {
  const int bytes = config_.row_bytes();
  float gradient[kMaxRowFloats];
  bool room = true;
  std::unique_lock<std::shared_mutex> lock(mutex_);
  for (int64_t i = -kAhead; i < n; ++i) {
    if (i + 2 * kAhead < n && keys[i + 2 * kAhead].reference == Arena::kNone) {
      Prefetch(keys[i + 2 * kAhead].key);
    }
    if (i + kAhead < n) {
      const KeyAt& ahead = keys[i + kAhead];
      if (ahead.reference == Arena::kNone) {
        PrefetchIndexedRow(SplitMix64(ahead.key), bytes);
      } else if (arena_.HasChunkOf(ahead.reference)) {
        PrefetchRow(ahead.reference, bytes);
      }
      PrefetchBytes(batch.gradients + int64_t{ahead.position} * batch.width, 4 * batch.width);
    }
    if (i >= 0 && !PushOne(keys[i], batch, gradient)) room = false;
  }
  KeepLimit();
  return room;
}

bool Shard::PushOne(const KeyAt& key_at, const PushBatch& batch, float* gradient) {
  const uint64_t key = key_at.key;
  const int64_t position = key_at.position;
  const int32_t slot = batch.slots[position];

  const uint64_t hash = SplitMix64(key);
  uint32_t handle = key_at.reference;
  RowHead* row = arena_.FindAt(handle, key);
  if (row == nullptr) {
    const uint32_t entry = *FindEntry(hash, key);
    handle = Index::HandleOf(entry);
    if (entry != 0) row = arena_.At(handle);
  }
  const bool existed = row != nullptr;
  const Policy& policy = config_.PolicyOf(existed ? row->slot : slot);
  if (!existed) {
    row = Create(key, hash, slot, policy,
                 policy.accessor.Admits(batch.show[position], batch.click[position]));
  }
  if (row == nullptr) return false;
  if (existed) Touch(handle);

  const bool admit = UpdateRow(config_.options(), policy, existed, batch, position, row, gradient,
                               &statistics_);
  return !admit || Admit(hash, row, policy);
}

uint32_t Shard::AllocateIndexed(uint64_t key, uint64_t hash, int size_class) {
  if (!index_.HasRoom()) {
    if (!index_.Reset(static_cast<uint32_t>(statistics_.rows) + 1)) return Arena::kNone;
    IndexAllRows();
  }
  const uint32_t handle = arena_.Allocate(key, size_class);
  if (handle != Arena::kNone) index_.InsertNew(hash, handle);
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
bool Shard::Admit(uint64_t hash, const RowHead* row, const Policy& policy) {
  uint32_t* const entry = FindEntry(hash, row->key);
  const uint32_t handle = arena_.Allocate(row->key, policy.size_class[true]);
  if (handle == Arena::kNone) return false;
  RowHead* larger = arena_.At(handle);
  *larger = *row;
  larger->flags &= ~kTouched;
  std::copy_n(Floats(row), policy.layout.head_floats(), Floats(larger));
  InitMfPart(config_.options(), policy, larger);
  Touch(handle);
  ++statistics_.admitted;
  arena_.Free(Index::HandleOf(*entry));
  Index::SetHandle(entry, handle);
  return true;
}

void Shard::IndexAllRows() {
  arena_.ForEach(
      [&](uint32_t handle, const RowHead* row) { index_.InsertNew(SplitMix64(row->key), handle); });
}

int64_t Shard::EndOfDay(int64_t day, const std::vector<uint64_t>* announced,
                        std::vector<RowHead>* left) {
  std::unique_lock<std::shared_mutex> lock(mutex_);
  if (finished_day_ >= day) return 0;
  const int64_t rows_before = statistics_.rows;
  statistics_.show = statistics_.click = 0;
  arena_.ForEach([&](uint32_t handle, RowHead* row) {
    if (IsDue(config_, row) && (announced == nullptr ||
                       std::binary_search(announced->begin(), announced->end(), row->key))) {
      if (left != nullptr) left->push_back(*row);
      if (row->flags & kServed) removals_.push_back(row->key);
      --statistics_.rows;
      if (IsAdmitted(row)) --statistics_.admitted;
      arena_.Free(handle);
      return;
    }
    config_.PolicyOf(row).accessor.Age(&row->show, &row->click, &row->unseen_days);
    statistics_.show += row->show;
    statistics_.click += row->click;
  });
  const int64_t evicted = rows_before - statistics_.rows;
  statistics_.evicted += evicted;
  if (evicted > 0) {
    if (!index_.Reset(static_cast<uint32_t>(statistics_.rows))) index_.Clear();
    IndexAllRows();
  }
  finished_day_ = day;
  all_touched_ = true;
  return evicted;
}

ShardStatistics Shard::Statistics() const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  ShardStatistics statistics = statistics_;
  statistics.pulled_keys = pulled_keys_;
  statistics.bytes = index_.small_bytes();
  statistics.fullness = config_.Fullness(statistics);
  return statistics;
}

ShardLoad Shard::Load() const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  return {statistics_.rows, arena_.bytes() + index_.bytes(), pulled_keys_};
}

void Shard::AppendKeys(std::vector<uint64_t>* keys) const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  arena_.ForEach([&](uint32_t, const RowHead* row) { keys->push_back(row->key); });
}

void Shard::Inspect(uint64_t key, int64_t position, const InspectedRows& out) const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  const uint32_t entry = *FindEntry(SplitMix64(key), key);
  CopyInspected(config_, entry == 0 ? nullptr : arena_.At(Index::HandleOf(entry)), position, out);
}

}  // namespace tfps
