// A feasign table: the rows of any number of 64-bit keys, spread over virtual shards.
//
// Each engine keeps rows in its own way. This class states what all engines promise, and does what
// no engine has to know about: which messages were applied, which pushes wait, how stale they were.
//
// Invariant: every push, pull and ageing of one row is one atomic step with respect to the others.
// All methods may be called at the same time from any number of threads.
#ifndef OPS_CORE_TABLE_H_
#define OPS_CORE_TABLE_H_

#include <atomic>
#include <cmath>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ops/core/accumulated.h"
#include "ops/core/clock.h"
#include "ops/core/columns.h"
#include "ops/core/hash.h"
#include "ops/core/options.h"
#include "ops/core/parallel.h"
#include "ops/core/push_batch.h"
#include "ops/core/shard_statistics.h"
#include "ops/core/table_config.h"

namespace tfps {

struct PushMessage;

// One sentence about a row.
std::string NonfiniteRow(uint64_t key);

class Table {
 public:
  virtual ~Table() = default;

  const TableOptions& options() const { return config_.options(); }
  int num_shards() const { return options().num_shards; }

  // The number of policies: the table's own, and those of slots in the order of their numbers.
  int64_t num_policies() const { return static_cast<int64_t>(config_.policies().size()); }

  // Sets learning rates (num_policies, 2), of lr and mf, for steps from now on, and what they are
  // multiplied by; no rates, or a negative factor, leave what is set.
  void SetLearningRates(const float* rates, int64_t n, float factor) {
    const std::lock_guard<std::mutex> lock(rates_mutex_);
    config_.SetLearningRates(rates, n, factor);
  }

  // The floats of the longest row: of lr_w and mf_w; of these and the optimizers' states.
  int row_width() const { return 1 + config_.mf_dim(); }
  int row_floats() const { return config_.row_floats(); }

  // Writes lr_w and mf_w of each key to rows (n, width), where width is from 1 to row_width. A
  // longer mf_w is cut; a shorter or absent one is padded with zeros. `references` (n), if given,
  // receives what saves a later push the look-ups, in an engine that has references.
  virtual void Pull(const uint64_t* keys, int64_t n, float* rows, int width,
                    const ParallelFor& parallel_for, uint32_t* references = nullptr) const = 0;

  // Writes show and click of each key to counts (n, 2); zeros for one without a row. They are those
  // of one moment, which need not be that of a Pull.
  virtual void PullCounts(const uint64_t* keys, int64_t n, float* counts,
                          const ParallelFor& parallel_for) const = 0;

  // Applies one row per key, in order; a key that occurs twice is pushed twice. Padding is dropped.
  // Reserved keys and rows whose show or click is not finite are dropped and counted. Returns one
  // sentence if a shard or the memory was full; the rows that found room are applied.
  virtual std::optional<std::string> Push(const PushBatch& batch,
                                          const ParallelFor& parallel_for) = 0;

  // Knows which batches were pushed, for callers that push each once.
  Clock& clock() { return clock_; }

  // The number of messages that were applied so far.
  int64_t version() const { return version_; }

  // Applies or accumulates a worker's message, unless the clock has seen it. `message` must be
  // valid, as ReadPush leaves it, with a width that the table's rows may have and a step that
  // passes CheckStep. Returns as Push does.
  std::optional<std::string> ApplyMessage(const PushMessage& message, bool accumulate,
                                          const ParallelFor& parallel_for);

  // Keeps a copy of a batch for ApplyAccumulated: 20 + 4 * width bytes per row, 4 more where
  // something is frozen, and 4 more where slots read the rows of others. Returns one sentence if
  // there is no memory for it.
  std::optional<std::string> Accumulate(const PushBatch& batch, int64_t ticket,
                                        int64_t batch_number);

  // Merges all kept batches by key and pushes them as one; sets `rows` to the number of distinct
  // feasigns. The result does not depend on the order of arrival if each batch has its own (ticket,
  // batch number); see Accumulated. Returns as Push does.
  std::optional<std::string> ApplyAccumulated(const ParallelFor& parallel_for, int64_t* rows);

  // Sets the clock of a restored state, and drops the accumulated batches.
  void SetClock(int64_t finished_below);

  // Evicts and ages rows in every shard that has not ended `day` yet; returns the number of evicted
  // rows.
  virtual int64_t EndOfDay(int64_t day, const ParallelFor& parallel_for) = 0;

  // The same for the shards [first_shard, last_shard); returns the heads of the evicted rows. If
  // `announced` is given, in any order, no other key is evicted: a row that is due but was not
  // announced has been pushed meanwhile; it ages and is evicted on a later day.
  virtual std::vector<RowHead> EndOfDayRows(int first_shard, int last_shard, int64_t day,
                                            std::optional<std::vector<uint64_t>> announced,
                                            const ParallelFor& parallel_for) = 0;

  // The heads of the rows of shards [first_shard, last_shard) that would be evicted if `day` ended
  // now. Changes nothing.
  virtual std::vector<RowHead> Evictable(int first_shard, int last_shard, int64_t day,
                                         const ParallelFor& parallel_for) const = 0;

  // The number of such rows in all shards, by slot.
  virtual std::map<int32_t, int64_t> CountEvictable(int64_t day,
                                                    const ParallelFor& parallel_for) const = 0;

  // Names and values, in the documented order.
  std::vector<std::pair<std::string, double>> Statistics() const;

  // The keys of shards [first_shard, last_shard), in no particular order.
  virtual std::vector<uint64_t> Keys(int first_shard, int last_shard) const = 0;

  // Everything a row holds, for n keys. Absent keys are all zeros and false.
  virtual void Inspect(const uint64_t* keys, int64_t n, const InspectedRows& rows) const = 0;

  // Copies a shard's rows, as of one moment, to the columns that `allocate` returns. If only
  // touched rows are asked for, it copies all of them after a day's end, which touches every row,
  // and on the first read; the state then says `whole`. Afterwards no row counts as touched.
  virtual ShardState ReadRows(int shard, Rows which, const AllocateColumns& allocate) = 0;

  // To be called if rows that were read could not be saved: every row counts as touched again.
  virtual void TouchAll(int shard) = 0;

  virtual ShardLoad Load(int shard) const = 0;

  // If state.whole, replaces all rows of the shard by these; otherwise inserts or overwrites them
  // one by one. Returns one sentence if they do not fit or do not belong to this shard; the shard
  // then holds what it held before, or a part of it.
  virtual std::optional<std::string> WriteRows(int shard, const RowColumns& columns,
                                               const RowColumnsSize& size,
                                               const ShardState& state) = 0;

  // Returns one sentence that names the first row with a number that is not finite, if there is
  // one.
  std::optional<std::string> CheckFinite(const RowColumns& columns,
                                         const RowColumnsSize& size) const;

  // Inserts or overwrites rows of any shards. Returns one sentence if they do not fit; then nothing
  // was changed, unless the memory was full.
  virtual std::optional<std::string> Upsert(const RowColumns& columns,
                                            const RowColumnsSize& size) = 0;

  // Copies the rows of an export to the columns that `allocate` returns, and appends what
  // serving is to drop: pending removals and, for a delta, served rows that a base would not hold.
  // Marks the rows as captured and changes nothing else. Returns one sentence if the table was
  // pushed to meanwhile.
  virtual std::optional<std::string> Capture(const ExportQuery& query,
                                             const AllocateExport& allocate,
                                             std::vector<Removal>* removed,
                                             const ParallelFor& parallel_for) = 0;

  // To be called once the export is durable: the captured scores are subtracted from delta_score,
  // captured rows are served, and removed keys are not. A base is all that serving holds, so after
  // it no other row is served. A captured row that was evicted meanwhile becomes a pending removal,
  // even if there is a new row of its key.
  virtual void Commit(Export which, const std::vector<CapturedKey>& captured,
                      const std::vector<uint64_t>& removed, const ParallelFor& parallel_for) = 0;

 protected:
  // The numbers of dropped pushes of a batch, by reason.
  struct Dropped {
    int64_t reserved = 0;
    int64_t nonfinite = 0;
  };

  explicit Table(const TableOptions& options) : config_(options) {}

  // Whether to push row `i` of a batch.
  static bool IsPushed(const PushBatch& batch, int64_t i, Dropped* dropped) {
    if (batch.keys[i] == kPadding) return false;
    if (IsReserved(batch.keys[i])) {
      ++dropped->reserved;
      return false;
    }
    if (!std::isfinite(batch.show[i]) || !std::isfinite(batch.click[i])) {
      ++dropped->nonfinite;
      return false;
    }
    return true;
  }
  void Count(const Dropped& dropped) {
    reserved_pushes_ += dropped.reserved;
    nonfinite_counts_ += dropped.nonfinite;
  }
  // Counts the rows of a batch whose clicks can be none: below 0, or above their show.
  void CountOddClicks(const PushBatch& batch) {
    int64_t odd = 0;
    for (int64_t i = 0; i < batch.n; ++i) {
      // Sums of the same floats may differ a little.
      const float most = batch.show[i] + 1e-5f * std::abs(batch.show[i]);
      if (batch.click[i] < 0 || batch.click[i] > most) {
        Dropped uncounted;
        odd += IsPushed(batch, i, &uncounted);
      }
    }
    if (odd > 0) odd_clicks_ += odd;
  }

  // The sum of the counts of all shards.
  virtual ShardStatistics Totals() const = 0;

  TableConfig config_;  // changes only in its learning rates

 private:
  // Pushes a batch that has each key once, or once for each reader; sets `rows` to the number of
  // distinct feasigns.
  std::optional<std::string> PushJoined(const PushBatch& batch, const ParallelFor& parallel_for,
                                        int64_t* rows);

  std::mutex rates_mutex_;
  Clock clock_;
  Accumulated accumulated_;
  std::atomic<int64_t> reserved_pushes_{0};
  std::atomic<int64_t> nonfinite_counts_{0};
  std::atomic<int64_t> odd_clicks_{0};
  std::atomic<int64_t> version_{0};
  std::atomic<int64_t> accumulated_messages_{0};  // added to `version_` once they are applied
  std::atomic<int64_t> repeated_pushes_{0};
  std::atomic<int64_t> staleness_sum_{0};
  std::atomic<int64_t> staleness_max_{0};
  std::atomic<int64_t> tickets_ahead_max_{0};
};

}  // namespace tfps

#endif  // OPS_CORE_TABLE_H_
