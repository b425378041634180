// One virtual shard of a table whose rows are in TFRA's tables: a lock, and what those do not know.
//
// TFRA's tables can list neither the keys of one shard nor those that changed, so a shard keeps its
// keys and the keys touched since it was last read: 8 bytes each. Invariant: `keys_` are those of
// the shard's rows, each once, and `statistics_` their totals; a key is in `touched_` once if its
// row has kTouched set. Pulls and inspections hold the lock shared; writers hold it exclusively.
#ifndef OPS_TFRA_SHARD_H_
#define OPS_TFRA_SHARD_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "ops/core/columns.h"
#include "ops/core/push_batch.h"
#include "ops/core/row.h"
#include "ops/core/row_update.h"
#include "ops/core/shard_statistics.h"
#include "ops/core/table_config.h"
#include "ops/tfra/rows.h"

namespace tfps {

class alignas(64) TfraShard {
 public:
  TfraShard(const TableConfig* config, TfraRows* rows) : config_(*config), rows_(*rows) {}

  // For batches, which hold the locks of several shards, taken in order.
  std::shared_mutex& mutex() const { return mutex_; }

  // Pushes one row of a batch; the caller holds the lock. `row` was read before, may be absent, and
  // is written back by the caller.
  void PushOne(const PushBatch& batch, int64_t position, RowHead* row, PushScratch* scratch);

  // Evicts rows over the limit, as tfps::Shard does after a push; the caller holds the lock.
  void KeepLimit();

  void CountPulled(int64_t keys) const { pulled_keys_.fetch_add(keys, std::memory_order_relaxed); }

  // The same as in tfps::Shard.
  int64_t EndOfDay(int64_t day, const std::vector<uint64_t>* announced = nullptr,
                   std::vector<RowHead>* left = nullptr);

  template <typename Visit>
  void ForEachDue(int64_t day, Visit visit) const {
    std::shared_lock<std::shared_mutex> lock(mutex_);
    if (finished_day_ >= day) return;
    Scan(keys_, Part::kHead, [&](const RowHead* row) {
      if (IsDue(config_, row)) visit(*row);
    });
  }

  ShardStatistics Statistics() const;
  ShardLoad Load() const;
  void AppendKeys(std::vector<uint64_t>* keys) const;
  void Inspect(uint64_t key, int64_t position, const InspectedRows& out) const;
  void PullCounts(uint64_t key, float* counts) const;

  ShardState ReadRows(Rows which, const AllocateColumns& allocate);
  void TouchAll();
  std::optional<std::string> WriteRows(const RowColumns& columns, const RowColumnsSize& size,
                                       const ShardState& state);
  std::optional<std::string> Upsert(const RowColumns& columns, const std::vector<RowAt>& rows);

  int64_t CountExported(const ExportQuery& query) const;
  int64_t Capture(const ExportQuery& query, int64_t room, const ExportColumns& out,
                  std::vector<Removal>* removed);
  void Commit(Export which, const std::vector<CapturedKey>& captured,
              const std::vector<uint64_t>& removed);

 private:
  static constexpr int64_t kScanRows = 256;  // rows that are read at a time

  // Reads the rows of `keys`, some at a time, and calls visit(row) for each that exists.
  template <typename Visit>
  void Scan(const std::vector<uint64_t>& keys, Part part, Visit visit) const {
    const int64_t n = static_cast<int64_t>(keys.size());
    RowBuffer buffer(config_, std::min(n, kScanRows));
    for (int64_t begin = 0; begin < n; begin += kScanRows) {
      const int64_t count = std::min(n - begin, kScanRows);
      rows_.Read(&keys[begin], count, part, &buffer);
      for (int64_t i = 0; i < count; ++i) {
        if (!IsAbsent(buffer[i])) visit(buffer[i]);
      }
    }
  }

  // The same for a visit(row) that may change the head and returns whether it did; changed heads
  // are written back.
  template <typename Visit>
  void Update(const std::vector<uint64_t>& keys, Part part, Visit visit) {
    const int64_t n = static_cast<int64_t>(keys.size());
    RowBuffer buffer(config_, std::min(n, kScanRows));
    for (int64_t begin = 0; begin < n; begin += kScanRows) {
      const int64_t count = std::min(n - begin, kScanRows);
      rows_.Read(&keys[begin], count, part, &buffer);
      std::vector<const RowHead*> changed;
      for (int64_t i = 0; i < count; ++i) {
        if (!IsAbsent(buffer[i]) && visit(buffer[i])) changed.push_back(buffer[i]);
      }
      rows_.Write(changed, Part::kHead);
    }
  }

  void Touch(RowHead* row);
  void ClearTouched();
  void Add(const RowHead* row);
  void Subtract(const RowHead* row);
  void RemoveRows(const std::vector<uint64_t>& keys);
  void PutRows(const RowColumns& columns, const std::vector<RowAt>& rows);

  const TableConfig& config_;
  TfraRows& rows_;
  mutable std::shared_mutex mutex_;
  std::vector<uint64_t> keys_;
  std::vector<uint64_t> touched_;
  ShardStatistics statistics_;  // `bytes` are those of the rows
  int64_t finished_day_ = std::numeric_limits<int64_t>::min();
  bool all_touched_ = true;  // if true, rows are not marked individually
  std::vector<Removal> removals_;
  mutable std::atomic<int64_t> pulled_keys_{0};
};

}  // namespace tfps

#endif  // OPS_TFRA_SHARD_H_
