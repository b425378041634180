// How much a shard may hold, and which rows are evicted when it holds more.
#ifndef OPS_CORE_ROW_LIMIT_H_
#define OPS_CORE_ROW_LIMIT_H_

#include <cstdint>
#include <vector>

#include "ops/core/options.h"

namespace tfps {

// The order of eviction: the lowest score first; among equals the row that has been unseen for
// longest, then the smallest key, as a signed number.
struct LeavingRow {
  double score;
  int32_t unseen_days;
  int32_t bytes;
  uint64_t key;
  uint32_t handle;  // the engine's own

  bool LeavesBefore(const LeavingRow& other) const {
    if (score != other.score) return score < other.score;
    if (unseen_days != other.unseen_days) return unseen_days > other.unseen_days;
    return static_cast<int64_t>(key) < static_cast<int64_t>(other.key);
  }
};

class RowLimit {
 public:
  // A shard's share of the table's limits.
  explicit RowLimit(const TableOptions& options);

  bool exists() const { return rows_ != kNone || bytes_ != kNone; }
  bool of_bytes() const { return bytes_ != kNone; }

  bool IsPassed(int64_t rows, int64_t bytes) const { return rows > rows_ || bytes > bytes_; }

  // The bytes that may still be added before rows must be evicted, a little below the limit.
  int64_t Left(int64_t bytes) const { return bytes_ - bytes_ / (2 * kPart) - bytes; }

  // The used share of the rows or of the bytes, whichever is larger; 0 without a limit.
  double Fullness(int64_t rows, int64_t bytes) const;

  // Returns the fewest rows whose eviction leaves 1/32 of the shard's share free, in the order of
  // LeavesBefore. `rows` are all rows of the shard.
  std::vector<LeavingRow> Leaving(std::vector<LeavingRow> rows, int64_t bytes) const;

 private:
  static constexpr int64_t kNone = INT64_MAX;
  static constexpr int64_t kPart = 32;

  int64_t rows_;
  int64_t bytes_;
};

}  // namespace tfps

#endif  // OPS_CORE_ROW_LIMIT_H_
