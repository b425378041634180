// A shard's rows on their way to a checkpoint and back.
#include <mutex>
#include <string>

#include "ops/core/row_copies.h"
#include "ops/core/shard.h"

namespace tfps {

ShardState Shard::ReadRows(Rows which, const AllocateColumns& allocate) {
  std::lock_guard<std::mutex> lock(mutex_);
  const bool whole = which == Rows::kAll || all_touched_;
  const auto for_each = [&](auto visit) {
    if (whole) {
      arena_.ForEach([&](uint32_t, const RowHead* row) { visit(row); });
    } else {
      arena_.ForEachTouched(visit);
    }
  };
  RowColumnsSize size = {0, 0};
  for_each([&](const RowHead* row) {
    ++size.rows;
    size.floats += config_.FloatsOf(row);
  });
  const RowColumns out = allocate(size);
  int64_t i = 0;
  float* floats = out.floats;
  for_each([&](const RowHead* row) { floats = CopyToColumns(config_, row, i++, out, floats); });
  arena_.ClearTouched();
  all_touched_ = false;
  return {finished_day_, whole, removals_};
}

void Shard::TouchAll() {
  std::lock_guard<std::mutex> lock(mutex_);
  all_touched_ = true;
}

std::optional<std::string> Shard::WriteRows(const RowColumns& columns, const RowColumnsSize& size,
                                            const ShardState& state) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Change change(view_);
  all_touched_ = true;
  if (state.whole) {
    RemoveAllRows();
    if (auto problem = InsertRows(columns, size.rows)) {
      RemoveAllRows();
      return problem;
    }
  } else {
    const float* floats = columns.floats;
    for (int64_t i = 0; i < size.rows; ++i) {
      if (!UpsertLocked(columns, i, floats)) return kNoRoom;
      floats += config_.FloatsOf(columns, i);
    }
  }
  finished_day_ = state.finished_day;
  removals_ = state.removals;
  return std::nullopt;
}

std::optional<std::string> Shard::Upsert(const RowColumns& columns,
                                         const std::vector<RowAt>& rows) {
  std::lock_guard<std::mutex> lock(mutex_);
  {
    const Change change(view_);
    for (const RowAt& row : rows) {
      if (!UpsertLocked(columns, row.i, row.floats)) return kNoRoom;
    }
  }
  look_again_at_ = 0;
  KeepLimit();
  return std::nullopt;
}

bool Shard::UpsertLocked(const RowColumns& columns, int64_t i, const float* floats) {
  const uint64_t key = columns.keys[i];
  const uint64_t hash = SplitMix64(key);
  const int size_class = config_.SizeClassOf(columns, i);
  const uint32_t old_handle = Find(hash, key);
  uint32_t handle;
  if (old_handle == Arena::kNone) {
    handle = AllocateIndexed(key, hash, size_class);
    if (handle == Arena::kNone) return false;
  } else {
    handle = arena_.Allocate(key, size_class);
    if (handle == Arena::kNone) return false;
    const RowHead* old = arena_.At(old_handle);
    --statistics_.rows;
    statistics_.admitted -= IsAdmitted(old);
    statistics_.show -= old->show;
    statistics_.click -= old->click;
    index_.Replace(hash, old_handle, handle);
    arena_.Free(old_handle);
  }
  FillRow(handle, columns, i, floats);
  Touch(handle);
  return true;
}

void Shard::FillRow(uint32_t handle, const RowColumns& columns, int64_t i, const float* floats) {
  RowHead* row = arena_.At(handle);
  CopyFromColumns(config_, columns, i, floats, row);
  ++statistics_.rows;
  statistics_.admitted += IsAdmitted(row);
  statistics_.show += row->show;
  statistics_.click += row->click;
}

void Shard::RemoveAllRows() {
  arena_.ForEach(
      [&](uint32_t handle, const RowHead* row) { Remove(SplitMix64(row->key), handle); });
  statistics_.show = statistics_.click = 0;
}

std::optional<std::string> Shard::InsertRows(const RowColumns& columns, int64_t n) {
  if (n >= int64_t{1} << 31 || !index_.Rebuild(static_cast<uint32_t>(n), [](auto) {})) {
    return kNoRoom;
  }
  const float* floats = columns.floats;
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t key = columns.keys[i];
    const uint64_t hash = SplitMix64(key);
    if (Find(hash, key) != Arena::kNone) {
      return "Key " + std::to_string(static_cast<int64_t>(key)) + " comes twice.";
    }
    const uint32_t handle = AllocateIndexed(key, hash, config_.SizeClassOf(columns, i));
    if (handle == Arena::kNone) return kNoRoom;
    FillRow(handle, columns, i, floats);
    floats += config_.FloatsOf(columns, i);
  }
  return std::nullopt;
}

}  // namespace tfps
