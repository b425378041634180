// One virtual shard: a lock, the rows of its keys, and the index that finds them.
//
// Invariant: every row in the arena is in the index exactly once, and the totals are those of the
// rows. Everything that writes holds the lock, and so does all that reads, except for pulls: see
// ShardView.
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
  uint32_t reference;  // a handle that the row had once, or anything: it is a hint only
  uint32_t hash;       // the low bits, which are all that an index looks at
  int32_t slot;
  float show;
  float click;
};

class alignas(64) Shard {
 public:
  // `number` is the shard's own; what pulls need to know of it is kept in `view`.
  Shard(const TableConfig* config, ChunkPool* pool, const Readers* readers, ShardView* view,
        uint32_t number);

  // Applies this shard's part of a batch whose gradients have `width` floats each. next_guess() is
  // called before each row and returns what the index guessed for it a moment ago, or kNone;
  // Readers must know of the caller since then. Returns false if there was no room for some rows.
  template <typename NextGuess>
  bool Push(const PushItem* items, int64_t n, const float* gradients, int width,
            NextGuess next_guess) {
    std::lock_guard<std::mutex> lock(mutex_);
    bool room = true;
    view_->BeginChange();
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t guess = next_guess();
      const float* const gradient = gradients + int64_t{items[i].position} * width;
      room &=
          PushOne(items[i], guess, {items[i].slot, items[i].show, items[i].click, gradient, width});
    }
    view_->EndChange();
    KeepLimit();
    return room;
  }

  // A pull of one key that waits for whoever changes the rows. Returns the row's handle.
  uint32_t PullLocked(uint64_t key, int width, float* out) const;

  // Brings what a push by this reference looks at into the cache; needs no lock.
  [[gnu::always_inline]] void PrefetchReference(uint32_t reference) const {
    arena_.PrefetchFor(reference);
  }

  // The end of `day`, unless it has been here: rows that are due leave, the others age. Returns how
  // many left. `announced`, if given, are the keys that may leave, in order; `left`, if given, gets
  // the heads of those that did.
  int64_t EndOfDay(int64_t day, const std::vector<uint64_t>* announced = nullptr,
                   std::vector<RowHead>* left = nullptr);

  // Calls visit(head) for each row that would leave if `day` ended now; none if it has ended here.
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

  // Copies rows, as of one moment, to where `allocate` says. Where only touched rows are asked for,
  // it is still all of them if the state says `whole`: after a day's end, which touches every row,
  // or before the first reading. From here on no row counts as touched.
  ShardState ReadRows(Rows which, const AllocateColumns& allocate);

  // What was read last did not reach its goal: every row counts as touched.
  void TouchAll();

  // Puts these rows, if state.whole, in the place of what there was, otherwise over it, row by row.
  // Returns one sentence if they do not fit: then there is what there was, or, if that was found
  // out late, a part of it.
  std::optional<std::string> WriteRows(const RowColumns& columns, const RowColumnsSize& size,
                                       const ShardState& state);

  // Puts some of the rows in or over what there was, in order. Returns one sentence if there is no
  // room.
  std::optional<std::string> Upsert(const RowColumns& columns, const std::vector<RowAt>& rows);

  // How many rows an export of this moment holds.
  int64_t CountExported(Export which) const;

  // Writes those rows, `room` at most, and appends the keys that serving is to drop: pending
  // removals and, for a delta, served rows that a base would not hold. Marks the rows, and changes
  // nothing else. Returns how many there are.
  int64_t Capture(Export which, int64_t room, const ExportColumns& out,
                  std::vector<uint64_t>* removed);

  // The export is durable: what was captured leaves delta_score and is served, what was removed is
  // not. A base is all that serving holds, so that every other row is not served. A captured row
  // that was evicted meanwhile becomes a pending removal, also where there is a new row of its key.
  void Commit(Export which, const std::vector<CapturedKey>& captured,
              const std::vector<uint64_t>& removed);

 private:
  // The handle of a key's row, or kNone.
  uint32_t Find(uint64_t hash, uint64_t key) const {
    return index_.Find(hash, [&](uint32_t handle) { return arena_.At(handle)->key == key; });
  }
  RowHead* FindRow(uint64_t key) const {
    const uint32_t handle = Find(SplitMix64(key), key);
    return handle == Arena::kNone ? nullptr : arena_.At(handle);
  }
  void SetServed(uint32_t handle, bool served);

  // Called when rows were put in: those that are over the limit leave, beside pulls, as at a day's
  // end. See RowLimit.
  void KeepLimit();

  bool PushOne(const PushItem& item, uint32_t guess, const RowPush& push);
  // Room for a row that is not there yet, found by the index; kNone if there is none.
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
  bool all_touched_ = true;  // then no row is marked one by one
  std::vector<uint64_t> removals_;
  int64_t look_again_at_ = 0;  // pushed keys, before which the limit is not passed
};

}  // namespace tfps

#endif  // OPS_CORE_SHARD_H_
