// One virtual shard: a lock, the rows of its keys, and the index that finds them.
//
// Invariant: every row in the arena is in the index exactly once, and the totals are those of the
// rows. Pulls and inspections hold the lock shared, everything that writes holds it alone.
#ifndef OPS_CORE_SHARD_H_
#define OPS_CORE_SHARD_H_

#include <atomic>
#include <cstdint>
#include <limits>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "ops/core/arena.h"
#include "ops/core/chunk_pool.h"
#include "ops/core/export_columns.h"
#include "ops/core/index.h"
#include "ops/core/push_batch.h"
#include "ops/core/row.h"
#include "ops/core/row_columns.h"
#include "ops/core/row_update.h"
#include "ops/core/shard_statistics.h"
#include "ops/core/table_config.h"

namespace tfps {

inline constexpr char kNoRoom[] =
    "The rows of a shard find no room: the memory is used up, or they are more than the 128 MiB "
    "that a shard holds; give the table more servers.";

// One key of a batch, its position there, and where its row may be.
struct KeyAt {
  uint64_t key;
  uint32_t position;
  uint32_t reference;  // a handle that the row had once, or anything: it is a hint only
};

class alignas(64) Shard {
 public:
  Shard(const TableConfig* config, ChunkPool* pool);

  // Brings the start of a look-up into the cache; needs no lock.
  void Prefetch(uint64_t key) const { index_.Prefetch(SplitMix64(key)); }

  // This shard's part of a batch; `rows` have `width` floats each. `references`, if given, get the
  // rows' handles, Arena::kNone for an absent one. Push returns false if there was no room for some
  // rows.
  void Pull(const KeyAt* keys, int64_t n, float* rows, int width, uint32_t* references) const;
  bool Push(const KeyAt* keys, int64_t n, const PushBatch& batch);

  // The end of `day`, unless it has been here: rows that are due leave, the others age. Returns how
  // many left. `announced`, if given, are the keys that may leave, in order; `left`, if given, gets
  // the heads of those that did.
  int64_t EndOfDay(int64_t day, const std::vector<uint64_t>* announced = nullptr,
                   std::vector<RowHead>* left = nullptr);

  // Calls visit(head) for each row that would leave if `day` ended now; none if it has ended here.
  template <typename Visit>
  void ForEachDue(int64_t day, Visit visit) const {
    std::shared_lock<std::shared_mutex> lock(mutex_);
    if (finished_day_ >= day) return;
    arena_.ForEach([&](uint32_t, const RowHead* row) {
      if (IsDue(config_, row)) visit(*row);
    });
  }

  ShardStatistics Statistics() const;
  ShardLoad Load() const;
  void AppendKeys(std::vector<uint64_t>* keys) const;
  void Inspect(uint64_t key, int64_t position, const InspectedRows& out) const;

  // Copies rows, as of one moment, to where `allocate` says. Where only touched rows are asked for, it is still all of
  // them if the state says `whole`: after a day's end, which touches every row, or before the first reading. From
  // here on no row counts as touched.
  ShardState ReadRows(Rows which, const AllocateColumns& allocate);

  // What was read last did not reach its goal: every row counts as touched.
  void TouchAll();

  // Puts these rows, if state.whole, in the place of what there was, otherwise over it, row by row. Returns one
  // sentence if they do not fit: then there is what there was, or, if that was found out late, a part of it.
  std::optional<std::string> WriteRows(const RowColumns& columns, const RowColumnsSize& size,
                                       const ShardState& state);

  // Puts some of the rows in or over what there was, in order. Returns one sentence if there is no room.
  std::optional<std::string> Upsert(const RowColumns& columns, const std::vector<RowAt>& rows);

  // How many rows an export of this moment holds.
  int64_t CountExported(Export which) const;

  // Writes those rows, `room` at most, and appends the keys that serving is to drop: pending removals and, for a delta,
  // served rows that a base would not hold. Marks the rows, and changes nothing else. Returns how many there are.
  int64_t Capture(Export which, int64_t room, const ExportColumns& out,
                  std::vector<uint64_t>* removed);

  // The export is durable: what was captured leaves delta_score and is served, what was removed is not. A base is all
  // that serving holds, so that every other row is not served. A captured row that was evicted meanwhile becomes a
  // pending removal, also where there is a new row of its key.
  void Commit(Export which, const std::vector<CapturedKey>& captured,
              const std::vector<uint64_t>& removed);

 private:
  uint32_t* FindEntry(uint64_t hash, uint64_t key) const {
    return index_.Find(hash, [&](uint32_t handle) { return arena_.At(handle)->key == key; });
  }
  void PrefetchRow(uint32_t handle, int most_bytes) const;
  void PrefetchIndexedRow(uint64_t hash, int most_bytes) const;
  void SetServed(uint32_t handle, bool served);

  // Called when rows were put in: those that are over the limit leave. See RowLimit.
  void KeepLimit();

  bool PushOne(const KeyAt& key_at, const PushBatch& batch, float* gradient);
  // Room for a row that is not there yet, found by the index; kNone if there is none.
  uint32_t AllocateIndexed(uint64_t key, uint64_t hash, int size_class);
  RowHead* Create(uint64_t key, uint64_t hash, int32_t slot, const Policy& policy, bool admitted);
  bool Admit(uint64_t hash, const RowHead* row, const Policy& policy);
  void IndexAllRows();  // into an index that is empty; in the order of memory
  void RemoveAllRows();
  std::optional<std::string> InsertRows(const RowColumns& columns, int64_t n);
  bool UpsertLocked(const RowColumns& columns, int64_t i, const float* floats);
  void FillRow(uint32_t handle, const RowColumns& columns, int64_t i, const float* floats);
  void Touch(uint32_t handle) {
    if (!all_touched_) arena_.Touch(handle);
  }

  const TableConfig& config_;
  mutable std::shared_mutex mutex_;
  Arena arena_;
  Index index_;
  ShardStatistics statistics_;
  int64_t finished_day_ = std::numeric_limits<int64_t>::min();
  bool all_touched_ = true;  // then no row is marked one by one
  std::vector<uint64_t> removals_;
  int64_t look_again_at_ = 0;  // pushed keys, before which the limit is not passed
  mutable std::atomic<int64_t> pulled_keys_{0};
};

}  // namespace tfps

#endif  // OPS_CORE_SHARD_H_
