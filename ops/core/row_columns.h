// Rows outside of a table, as plain columns: what a checkpoint holds of one shard. Whoever owns the
// memory hands in where it is.
#ifndef OPS_CORE_ROW_COLUMNS_H_
#define OPS_CORE_ROW_COLUMNS_H_

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
  bool whole = true;               // the rows are all rows; otherwise those touched since the last reading
  std::vector<uint64_t> removals;  // pending removals: keys that were served when they were evicted
};

// What a shard costs its server.
struct ShardLoad {
  int64_t rows;
  int64_t bytes;         // of chunks and index
  int64_t pulled_keys;  // since the table was made
};

// Which rows are read.
enum class Rows { kAll, kTouched };

// Called once the size is known; returns where the columns are to be written.
using AllocateColumns = std::function<RowColumns(const RowColumnsSize& size)>;

}  // namespace tfps

#endif  // OPS_CORE_ROW_COLUMNS_H_
