// A feasign table: the rows of any number of 64-bit keys, spread over virtual shards.
//
// Each engine keeps rows in its own way. Here is what all of them promise, and what none of them
// has to know: which messages were applied, what waits to be pushed, how stale it was.
//
// Invariant: every push, pull and ageing of one row is one atomic step with respect to the others.
// All methods may be called at the same time from any number of threads.
#ifndef OPS_CORE_TABLE_H_
#define OPS_CORE_TABLE_H_

#include <atomic>
#include <cmath>
#include <cstdint>
#include <map>
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

class Table {
 public:
  virtual ~Table() = default;

  const TableOptions& options() const { return config_.options(); }
  int num_shards() const { return options().num_shards; }

  // Of the longest rows: lr_w and mf_w; these and the optimizers' states.
  int row_width() const { return 1 + config_.mf_dim(); }
  int row_floats() const { return config_.row_floats(); }

  // Writes lr_w and mf_w of each key to rows (n, width), where width is from 1 to row_width: as
  // much of mf_w as there is room for, and zeros for what there is not. `references` (n), if given,
  // get what saves a later push the look-ups, in an engine that has such.
  virtual void Pull(const uint64_t* keys, int64_t n, float* rows, int width,
                    const ParallelFor& parallel_for, uint32_t* references = nullptr) const = 0;

  // Applies one row per key, in order; a key that comes twice is pushed twice. Padding is dropped;
  // so are reserved keys and rows whose show or click is not finite, and those are counted. Returns
  // one sentence if a shard or the memory was full: the rows that found room are applied.
  virtual std::optional<std::string> Push(const PushBatch& batch,
                                          const ParallelFor& parallel_for) = 0;

  // Which batches were pushed, for those who push each once.
  Clock& clock() { return clock_; }

  // How many messages were applied so far.
  int64_t version() const { return version_; }

  // Applies what a worker sent, or accumulates it, unless the clock has seen it. `message` must be
  // whole, as ReadPush leaves it, its width one of the table's rows, and its step must pass
  // CheckStep. Returns as Push.
  std::optional<std::string> ApplyMessage(const PushMessage& message, bool accumulate,
                                          const ParallelFor& parallel_for);

  // Keeps a copy of a batch for ApplyAccumulated: 20 + 4 * width bytes per row. Returns one
  // sentence if there is no memory for it.
  std::optional<std::string> Accumulate(const PushBatch& batch, int64_t ticket,
                                        int64_t batch_number);

  // Merges all batches that are kept by key and pushes them as one; sets `rows` to the number of
  // distinct feasigns. The outcome does not depend on the order in which batches came, if each has
  // a (ticket, batch number) of its own; see Accumulated. Returns as Push.
  std::optional<std::string> ApplyAccumulated(const ParallelFor& parallel_for, int64_t* rows);

  // Sets the clock to that of a restored state, and drops what is accumulated.
  void SetClock(int64_t finished_below);

  // Evicts and ages every shard that has not yet seen the end of `day`; returns how many rows were
  // evicted.
  virtual int64_t EndOfDay(int64_t day, const ParallelFor& parallel_for) = 0;

  // The same for the shards [first_shard, last_shard), and returns the heads of the evicted rows.
  // If `announced` is given, in any order, no other key is evicted: what is due without having been
  // announced was pushed meanwhile, ages, and leaves another day.
  virtual std::vector<RowHead> EndOfDayRows(int first_shard, int last_shard, int64_t day,
                                            std::optional<std::vector<uint64_t>> announced,
                                            const ParallelFor& parallel_for) = 0;

  // The heads of those rows of shards [first_shard, last_shard) that would be evicted if `day`
  // ended now. Changes nothing.
  virtual std::vector<RowHead> Evictable(int first_shard, int last_shard, int64_t day,
                                         const ParallelFor& parallel_for) const = 0;

  // How many rows of each slot that would be, over all shards, in the order of slots.
  virtual std::map<int32_t, int64_t> CountEvictable(int64_t day,
                                                    const ParallelFor& parallel_for) const = 0;

  // Name and value, in the order of the documentation.
  std::vector<std::pair<std::string, double>> Statistics() const;

  // The keys of shards [first_shard, last_shard), in no particular order.
  virtual std::vector<uint64_t> Keys(int first_shard, int last_shard) const = 0;

  // Everything a row holds, for n keys. Absent keys are all zeros and false.
  virtual void Inspect(const uint64_t* keys, int64_t n, const InspectedRows& rows) const = 0;

  // Copies a shard's rows, as of one moment, to where `allocate` says. Where only touched rows are
  // asked for, it is still all of them if the state says `whole`: after a day's end, which touches
  // every row, or before the first reading. From here on no row counts as touched.
  virtual ShardState ReadRows(int shard, Rows which, const AllocateColumns& allocate) = 0;

  // What was read last did not reach its goal: every row counts as touched.
  virtual void TouchAll(int shard) = 0;

  virtual ShardLoad Load(int shard) const = 0;

  // Puts these rows, if state.whole, in the place of what there was in the shard, otherwise over
  // it, row by row. Returns one sentence if they do not fit, or are none of this shard: then there
  // is what there was, or, if that was found out late, a part of it.
  virtual std::optional<std::string> WriteRows(int shard, const RowColumns& columns,
                                               const RowColumnsSize& size,
                                               const ShardState& state) = 0;

  // Puts rows of any shards in or over what there was. Returns one sentence if they do not fit:
  // then nothing was changed, unless the memory was full.
  virtual std::optional<std::string> Upsert(const RowColumns& columns,
                                            const RowColumnsSize& size) = 0;

  // Copies the rows of an export to where `allocate` says, and appends the keys that serving is to
  // drop: pending removals and, for a delta, served rows that a base would not hold. Marks the
  // rows, and changes nothing else. Returns one sentence if the table was pushed to meanwhile.
  virtual std::optional<std::string> Capture(Export which, const AllocateExport& allocate,
                                             std::vector<uint64_t>* removed,
                                             const ParallelFor& parallel_for) = 0;

  // The export is durable: what was captured leaves delta_score and is served, what was removed is
  // not. A base is all that serving holds, so that every other row is not served. A captured row
  // that was evicted meanwhile becomes a pending removal, also where there is a new row of its key.
  virtual void Commit(Export which, const uint64_t* keys, const double* delta_scores, int64_t n,
                      const std::vector<uint64_t>& removed, const ParallelFor& parallel_for) = 0;

 protected:
  // How many pushes of a batch were dropped, and why.
  struct Dropped {
    int64_t reserved = 0;
    int64_t nonfinite = 0;
  };

  explicit Table(const TableOptions& options) : config_(options) {}

  // Whether row `i` of a batch is one to push.
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

  // What all shards counted.
  virtual ShardStatistics Totals() const = 0;

  const TableConfig config_;

 private:
  Clock clock_;
  Accumulated accumulated_;
  std::atomic<int64_t> reserved_pushes_{0};
  std::atomic<int64_t> nonfinite_counts_{0};
  std::atomic<int64_t> version_{0};
  std::atomic<int64_t> accumulated_messages_{0};  // that are part of `version_` once applied
  std::atomic<int64_t> repeated_pushes_{0};
  std::atomic<int64_t> staleness_sum_{0};
  std::atomic<int64_t> staleness_max_{0};
  std::atomic<int64_t> tickets_ahead_max_{0};
};

}  // namespace tfps

#endif  // OPS_CORE_TABLE_H_
