// How much a shard may hold, and which rows leave when it holds more.
#ifndef OPS_CORE_ROW_LIMIT_H_
#define OPS_CORE_ROW_LIMIT_H_

#include <cstdint>
#include <vector>

#include "ops/core/options.h"

namespace tfps {

// What decides whether a row leaves: the lowest score first; of equals the one that was not seen
// for longest, then that of the smallest key, as a signed number.
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
  // A shard's share of what the options say of the table.
  explicit RowLimit(const TableOptions& options);

  bool exists() const { return rows_ != kNone || bytes_ != kNone; }
  bool of_bytes() const { return bytes_ != kNone; }

  bool IsPassed(int64_t rows, int64_t bytes) const { return rows > rows_ || bytes > bytes_; }

  // How many bytes are left until MakeRoom makes some, where it is called before the limit is
  // passed.
  int64_t Left(int64_t bytes) const { return bytes_ - bytes_ / (2 * kPart) - bytes; }

  // The larger share that is used of the rows or the bytes; 0 where there is no limit.
  double Fullness(int64_t rows, int64_t bytes) const;

  // Those of a shard's rows that leave, so that a 32nd of its share is free afterwards: the fewest
  // that must, in the order of LeavesBefore. `rows` are all of the shard's.
  std::vector<LeavingRow> Leaving(std::vector<LeavingRow> rows, int64_t bytes) const;

 private:
  static constexpr int64_t kNone = INT64_MAX;
  static constexpr int64_t kPart = 32;

  int64_t rows_;
  int64_t bytes_;
};

}  // namespace tfps

#endif  // OPS_CORE_ROW_LIMIT_H_
