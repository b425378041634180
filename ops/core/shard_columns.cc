// A shard's rows on their way to a checkpoint and back.
#include <algorithm>
#include <mutex>
#include <string>

#include "ops/core/shard.h"

namespace tfps {

int64_t Shard::ReadRows(const AllocateColumns& allocate) const {
  const RowLayout& layout = config_.layout;
  std::shared_lock<std::shared_mutex> lock(mutex_);
  const int64_t admitted = statistics_.admitted;
  const int64_t rows = statistics_.rows;
  const RowColumns out = allocate({rows, admitted * layout.floats(/*admitted=*/true) +
                                             (rows - admitted) * layout.floats(false)});
  int64_t i = 0;
  float* floats = out.floats;
  arena_.ForEach([&](uint32_t, const RowHead* row) {
    out.keys[i] = row->key;
    out.slots[i] = row->slot;
    out.statistics[3 * i] = row->show;
    out.statistics[3 * i + 1] = row->click;
    out.statistics[3 * i + 2] = row->delta_score;
    out.unseen_days[i] = row->unseen_days;
    out.flags[i] = row->flags;
    floats = std::copy_n(Floats(row), layout.floats(IsAdmitted(row)), floats);
    ++i;
  });
  return finished_day_;
}

std::optional<std::string> Shard::WriteRows(const RowColumns& columns, const RowColumnsSize& size,
                                            int64_t finished_day) {
  const RowLayout& layout = config_.layout;
  const int64_t admitted =
      std::count_if(columns.flags, columns.flags + size.rows,
                    [](uint16_t flags) { return (flags & kAdmitted) != 0; });
  const int64_t floats =
      admitted * layout.floats(true) + (size.rows - admitted) * layout.floats(false);
  if (floats != size.floats) {
    return std::to_string(size.rows) + " rows, " + std::to_string(admitted) +
           " of them admitted, come with " + std::to_string(size.floats) +
           " floats, but this table's mf_dim and optimizers make that " + std::to_string(floats) +
           ".";
  }
  std::unique_lock<std::shared_mutex> lock(mutex_);
  RemoveAllRows();
  const std::optional<std::string> problem = InsertRows(columns, size.rows);
  if (problem) {
    RemoveAllRows();
  } else {
    finished_day_ = finished_day;
  }
  return problem;
}

void Shard::RemoveAllRows() {
  arena_.ForEach([&](uint32_t handle, RowHead*) { arena_.Free(handle); });
  if (!index_.Reset(0)) index_.Clear();
  statistics_.rows = statistics_.admitted = 0;
  statistics_.show = statistics_.click = 0;
}

std::optional<std::string> Shard::InsertRows(const RowColumns& columns, int64_t n) {
  constexpr char kNoRoom[] =
      "The rows of a shard find no room: the memory is used up, or they are more than the 128 MiB "
      "that a shard holds; give the table more servers.";
  const RowLayout& layout = config_.layout;
  if (n >= int64_t{1} << Arena::kHandleBits) return kNoRoom;
  if (n > 0 && !index_.Reset(static_cast<uint32_t>(n))) return kNoRoom;
  const float* floats = columns.floats;
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t key = columns.keys[i];
    const uint64_t hash = SplitMix64(key);
    uint32_t* entry = FindEntry(hash, key);
    if (*entry != 0) return "Key " + std::to_string(static_cast<int64_t>(key)) + " comes twice.";
    const bool admitted = columns.flags[i] & kAdmitted;
    const uint32_t handle = arena_.Allocate(key, admitted);
    if (handle == Arena::kNone) return kNoRoom;
    index_.Insert(entry, hash, handle);
    const double* statistics = columns.statistics + 3 * i;
    RowHead* row = arena_.At(handle);
    *row = {key,
            statistics[0],
            statistics[1],
            statistics[2],
            columns.slots[i],
            columns.unseen_days[i],
            columns.flags[i]};
    std::copy_n(floats, layout.floats(admitted), Floats(row));
    floats += layout.floats(admitted);
    ++statistics_.rows;
    statistics_.admitted += admitted;
    statistics_.show += row->show;
    statistics_.click += row->click;
  }
  return std::nullopt;
}

}  // namespace tfps
