// One virtual shard: a lock, the rows of its keys, and the index that finds them.
//
// Invariant: every row in the arena is in the index exactly once, and the totals are those of the
// rows. Writers and readers hold the lock, except for pulls: see ShardView.
#ifndef OPS_CORE_SHARD_H_
#define OPS_CORE_SHARD_H_

#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "ops/core/arena.h"
#include "ops/core/chunk_pool.h"
#include "ops/core/columns.h"
#include "ops/core/index.h"
#include "ops/core/push_batch.h"
#include "ops/core/readers.h"
#include "ops/core/row.h"
#include "ops/core/row_update.h"
#include "ops/core/shard_statistics.h"
#include "ops/core/shard_view.h"
#include "ops/core/table_config.h"

namespace tfps {

inline constexpr char kNoRoom[] =
    "Rows find no room: the memory is used up, or the table holds its most of 64 GiB on this "
    "server; give the table more servers.";

// One row of a batch of pushes.
struct PushItem {
  uint64_t key;
  uint32_t position;   // in the batch
  uint32_t reference;  // a handle that the row once had, or any number: only a hint
  uint32_t hash;       // the low bits; an index uses no others
  int32_t slot;
  float show;
  float click;
};

class alignas(64) Shard {
 public:
  // `number` is the shard's own. The shard keeps in `view` what pulls need to know.
  Shard(const TableConfig* config, ChunkPool* pool, const Readers* readers, ShardView* view,
        uint32_t number);

  // Applies this shard's part of a batch. next_guess() is called before each row and returns the
  // index's recent guess for it, or kNone; the caller must have held a Readers::Reading since that
  // guess. Returns false if some rows found no room.
  template <typename NextGuess>
  bool Push(const PushItem* items, int64_t n, const PushBatch& batch, NextGuess next_guess) {
    std::lock_guard<std::mutex> lock(mutex_);
    bool room = true;
    view_->BeginChange();
    for (int64_t i = 0; i < n; ++i) {
      const PushItem& item = items[i];
      const uint32_t guess = next_guess();
      const float step_show =
          batch.step_show == nullptr ? item.show : batch.step_show[item.position];
      const float* const gradient = batch.gradients + int64_t{item.position} * batch.width;
      room &= PushOne(item, guess,
                      {item.slot, item.show, item.click, step_show, gradient, batch.width,
                       batch.Counts(item.position)});
    }
    view_->EndChange();
    KeepLimit();
    return room;
  }

  // Pulls one key under the lock. Returns the row's handle.
  uint32_t PullLocked(uint64_t key, int width, float* out) const;

  // Prefetches what a push with this reference reads. Needs no lock.
  [[gnu::always_inline]] void PrefetchReference(uint32_t reference) const {
    arena_.PrefetchFor(reference);
  }

  // Ends `day`, unless this shard has already ended it: evicts the rows that are due and ages the
  // others. Returns the number of evicted rows. `announced`, if given, holds the keys that may be
  // evicted, sorted; `left`, if given, receives the heads of the evicted rows.
  int64_t EndOfDay(int64_t day, const std::vector<uint64_t>* announced = nullptr,
                   std::vector<RowHead>* left = nullptr);

  // Calls visit(head) for each row that would be evicted if `day` ended now; for none if this shard
  // has already ended it.
  template <typename Visit>
  void ForEachDue(int64_t day, Visit visit) const {
    std::lock_guard<std::mutex> lock(mutex_);
    if (finished_day_ >= day) return;
    arena_.ForEach([&](uint32_t, const RowHead* row) {
      if (IsDue(config_, row)) visit(*row);
    });
  }

  ShardStatistics Statistics() const;
  ShardLoad Load() const;
  void AppendKeys(std::vector<uint64_t>* keys) const;
  void Inspect(uint64_t key, int64_t position, const InspectedRows& out) const;
  void PullCounts(uint64_t key, float* counts) const;  // show and click

  // Copies rows, as of one moment, to the columns that `allocate` returns. If only touched rows are
  // asked for, it copies all of them after a day's end, which touches every row, and on the first
  // read; the state then says `whole`. Afterwards no row counts as touched.
  ShardState ReadRows(Rows which, const AllocateColumns& allocate);

  // To be called if rows that were read could not be saved: every row counts as touched again.
  void TouchAll();

  // If state.whole, replaces all rows of the shard by these; otherwise inserts or overwrites them
  // one by one. Returns one sentence if they do not fit; the shard then holds what it held before,
  // or a part of it.
  std::optional<std::string> WriteRows(const RowColumns& columns, const RowColumnsSize& size,
                                       const ShardState& state);

  // Inserts or overwrites some of the rows, in order. Returns one sentence if there is no room.
  std::optional<std::string> Upsert(const RowColumns& columns, const std::vector<RowAt>& rows);

  // The number of rows that an export would hold now.
  int64_t CountExported(const ExportQuery& query) const;

  // Writes those rows, at most `room` of them, and appends what serving is to drop:
  // pending removals and, for a delta, served rows that a base would not hold. Marks the rows as
  // captured and changes nothing else. Returns the number of rows that there are.
  int64_t Capture(const ExportQuery& query, int64_t room, const ExportColumns& out,
                  std::vector<Removal>* removed);

  // To be called once the export is durable: the captured scores are subtracted from delta_score,
  // captured rows are served, and removed keys are not. A base is all that serving holds, so after
  // it no other row is served. A captured row that was evicted meanwhile becomes a pending removal,
  // even if there is a new row of its key.
  void Commit(Export which, const std::vector<CapturedKey>& captured,
              const std::vector<uint64_t>& removed);

 private:
  // Returns the handle of a key's row, or kNone.
  uint32_t Find(uint64_t hash, uint64_t key) const {
    return index_.Find(hash, [&](uint32_t handle) { return arena_.At(handle)->key == key; });
  }
  RowHead* FindRow(uint64_t key) const {
    const uint32_t handle = Find(SplitMix64(key), key);
    return handle == Arena::kNone ? nullptr : arena_.At(handle);
  }
  void SetServed(uint32_t handle, bool served);

  // To be called after rows were inserted: evicts rows if the shard is over its limit, while pulls
  // go on. See RowLimit.
  void KeepLimit();

  bool PushOne(const PushItem& item, uint32_t guess, const RowPush& push);
  // Allocates and indexes a row for a new key; returns kNone if there is no room.
  uint32_t AllocateIndexed(uint64_t key, uint64_t hash, int size_class);
  RowHead* Create(uint64_t key, uint64_t hash, int32_t slot, const Policy& policy, bool admitted);
  bool Admit(uint64_t hash, uint32_t handle, const Policy& policy);
  bool RebuildIndex();
  void Remove(uint64_t hash, uint32_t handle);
  void RemoveAllRows();
  std::optional<std::string> InsertRows(const RowColumns& columns, int64_t n);
  bool UpsertLocked(const RowColumns& columns, int64_t i, const float* floats);
  void FillRow(uint32_t handle, const RowColumns& columns, int64_t i, const float* floats);
  void Touch(uint32_t handle) {
    if (!all_touched_) arena_.Touch(handle);
  }

  const TableConfig& config_;
  const Readers& readers_;
  ShardView* const view_;
  const uint32_t number_;
  mutable std::mutex mutex_;
  Arena arena_;
  Index index_;
  ShardStatistics statistics_;
  int64_t finished_day_ = std::numeric_limits<int64_t>::min();
  bool all_touched_ = true;  // if true, rows are not marked individually
  std::vector<Removal> removals_;
  int64_t look_again_at_ = 0;  // number of pushed keys before which the limit cannot be passed
};

}  // namespace tfps

#endif  // OPS_CORE_SHARD_H_
