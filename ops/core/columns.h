// Rows outside of a table, as plain columns whose memory the caller owns: what a checkpoint holds
// of one shard, and what an export takes to serving.
#ifndef OPS_CORE_COLUMNS_H_
#define OPS_CORE_COLUMNS_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace tfps {

struct RowColumns {
  uint64_t* keys;         // (n)
  int32_t* slots;         // (n)
  double* statistics;     // (n, 3): show, click, delta_score
  uint16_t* unseen_days;  // (n)
  uint16_t* flags;        // (n): those of kSavedFlags
  float* floats;          // row after row: lr_w, lr state and, of an admitted row, mf_w, mf state
};

struct RowColumnsSize {
  int64_t rows;
  int64_t floats;  // of all rows together
};

// One of the rows, and where its floats begin.
struct RowAt {
  int64_t i;
  const float* floats;
};

// What else a shard has, beside its rows.
struct ShardState {
  int64_t finished_day = std::numeric_limits<int64_t>::min();
  bool whole = true;  // the rows are all rows; otherwise those touched since the last reading
  std::vector<uint64_t> removals;  // pending removals: keys that were served when they were evicted
};

// What a shard costs its server.
struct ShardLoad {
  int64_t rows;
  int64_t bytes;        // of chunks and index
  int64_t pulled_keys;  // since the table was made
};

// Which rows are read.
enum class Rows { kAll, kTouched };

// Called once the size is known; returns where the columns are to be written.
using AllocateColumns = std::function<RowColumns(const RowColumnsSize& size)>;

// A base holds every row that serving needs, a delta those that changed enough since.
enum class Export { kBase, kDelta };

struct ExportColumns {
  uint64_t* keys;  // (n)
  float* rows;     // (n, 1 + the largest mf_dim): lr_w, mf_w; zeros beyond the row's own mf, or
                   // without one
  double* delta_scores;  // (n): what to take off once the export is durable
};

// Called once the number of rows is known; returns where they are to be written, keys == nullptr
// for nowhere.
using AllocateExport = std::function<ExportColumns(int64_t rows)>;

// A row that was captured, and the delta_score that it had.
struct CapturedKey {
  uint64_t key;
  double delta_score;
};

}  // namespace tfps

#endif  // OPS_CORE_COLUMNS_H_
