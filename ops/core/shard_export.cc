// A shard's rows on their way to serving.
#include <algorithm>
#include <mutex>
#include <unordered_set>

#include "ops/core/row_copies.h"
#include "ops/core/shard.h"

namespace tfps {

int64_t Shard::CountExported(const ExportQuery& query) const {
  std::lock_guard<std::mutex> lock(mutex_);
  int64_t rows = 0;
  arena_.ForEach([&](uint32_t, const RowHead* row) { rows += IsExported(config_, query, row); });
  return rows;
}

int64_t Shard::Capture(const ExportQuery& query, int64_t room, const ExportColumns& out,
                       std::vector<Removal>* removed) {
  std::lock_guard<std::mutex> lock(mutex_);
  int64_t rows = 0;
  arena_.ForEach([&](uint32_t, RowHead* row) {
    if (!IsExported(config_, query, row)) {
      if (IsRemoved(config_, query, row)) removed->push_back({row->key, row->slot});
      return;
    }
    const int64_t i = rows++;
    if (i >= room) return;
    SetFlags(row, row->flags | kCaptured);
    CopyExported(config_, row, i, out);
  });
  for (const Removal& removal : removals_) {
    if (!query.Asks(removal)) continue;
    const RowHead* row = FindRow(removal.key);
    // A key that was pushed again is in the export with its new row.
    if (row == nullptr || !IsExported(config_, query, row)) removed->push_back(removal);
  }
  return rows;
}

void Shard::SetServed(uint32_t handle, bool served) {
  RowHead* row = arena_.At(handle);
  SetFlags(row, served ? row->flags | kServed : row->flags & ~kServed);
  Touch(handle);
}

void Shard::Commit(Export which, const std::vector<CapturedKey>& captured,
                   const std::vector<uint64_t>& removed) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (which == Export::kBase) {
    arena_.ForEach([&](uint32_t handle, const RowHead* row) {
      if (row->flags & kServed) SetServed(handle, false);
    });
  }
  for (const uint64_t key : removed) {
    const uint32_t handle = Find(SplitMix64(key), key);
    if (handle != Arena::kNone) SetServed(handle, false);
  }
  if (!removals_.empty()) {
    std::unordered_set<uint64_t> done(removed.begin(), removed.end());
    for (const CapturedKey& row : captured) done.insert(row.key);
    removals_.erase(
        std::remove_if(removals_.begin(), removals_.end(),
                       [&](const Removal& removal) { return done.count(removal.key) != 0; }),
        removals_.end());
  }
  for (const CapturedKey& row : captured) {
    const uint32_t handle = Find(SplitMix64(row.key), row.key);
    RowHead* there = handle == Arena::kNone ? nullptr : arena_.At(handle);
    if (there == nullptr || !(there->flags & kCaptured)) {
      removals_.push_back({row.key, row.slot});
      continue;
    }
    there->delta_score -= row.delta_score;
    SetServed(handle, true);
  }
}

}  // namespace tfps
