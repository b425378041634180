// Rows outside of a table, as plain columns whose memory the caller owns: what a checkpoint holds
// of one shard, and what an export holds for serving.
#ifndef OPS_CORE_COLUMNS_H_
#define OPS_CORE_COLUMNS_H_

#include <algorithm>
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

// The index of a row, and where its floats begin.
struct RowAt {
  int64_t i;
  const float* floats;
};

constexpr int32_t kUnknownSlot = -1;

// A key that serving holds and whose row was evicted.
struct Removal {
  uint64_t key;
  int32_t slot;  // of the row; kUnknownSlot in checkpoints of tfps 0.1

  bool operator==(const Removal& other) const { return key == other.key && slot == other.slot; }
};

// The state of a shard beside its rows.
struct ShardState {
  int64_t finished_day = std::numeric_limits<int64_t>::min();
  bool whole = true;  // whether these are all rows, or only those touched since the last read
  std::vector<Removal> removals;  // pending ones
};

// The load that a shard puts on its server.
struct ShardLoad {
  int64_t rows;
  int64_t bytes;        // of chunks and index
  int64_t pulled_keys;  // since the table was made
};

// The rows to read.
enum class Rows { kAll, kTouched };

// Is called once the size is known; returns the columns to write to.
using AllocateColumns = std::function<RowColumns(const RowColumnsSize& size)>;

// A base holds every row that serving needs; a delta holds those that have changed enough since.
enum class Export { kBase, kDelta };

// What an export is to hold.
struct ExportQuery {
  Export which;
  std::vector<int32_t> slots = {};  // sorted: only their rows; none: those of all slots

  bool Asks(int32_t slot) const {
    return slots.empty() || std::binary_search(slots.begin(), slots.end(), slot);
  }
  // A base is all that serving holds, so it leaves no removal pending.
  bool Asks(const Removal& removal) const {
    return which == Export::kBase || removal.slot == kUnknownSlot || Asks(removal.slot);
  }
};

struct ExportColumns {
  uint64_t* keys;  // (n)
  int32_t* slots;  // (n)
  float* rows;     // (n, width): lr_w, mf_w; zeros where the row has no mf or a shorter one; then
                   // show and click, if width has room for them
  double* delta_scores;  // (n): what to subtract once the export is durable
  int width;             // 1 + the largest mf_dim, and 2 more for show and click
};

// Is called once the number of rows is known; returns the columns to write to, with keys == nullptr
// if there is no memory.
using AllocateExport = std::function<ExportColumns(int64_t rows)>;

// The key and slot of a captured row, and the delta_score that it had.
struct CapturedKey {
  uint64_t key;
  int32_t slot;
  double delta_score;
};

}  // namespace tfps

#endif  // OPS_CORE_COLUMNS_H_
