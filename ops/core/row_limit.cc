#include "ops/core/row_limit.h"

#include <algorithm>

namespace tfps {
namespace {

int64_t Share(double of_table, int num_shards, int64_t none) {
  if (of_table <= 0) return none;
  return std::max<int64_t>(1, static_cast<int64_t>(of_table / num_shards));
}

}  // namespace

RowLimit::RowLimit(const TableOptions& options)
    : rows_(Share(options.max_rows, options.num_shards, kNone)),
      bytes_(Share(options.max_bytes, options.num_shards, kNone)) {}

double RowLimit::Fullness(int64_t rows, int64_t bytes) const {
  double fullness = 0;
  if (rows_ != kNone) fullness = static_cast<double>(rows) / rows_;
  if (bytes_ != kNone) fullness = std::max(fullness, static_cast<double>(bytes) / bytes_);
  return fullness;
}

std::vector<LeavingRow> RowLimit::Leaving(std::vector<LeavingRow> rows, int64_t bytes) const {
  const int64_t most_rows = rows_ == kNone ? kNone : rows_ - rows_ / kPart;
  const int64_t most_bytes = bytes_ == kNone ? kNone : bytes_ - bytes_ / kPart;
  // A heap whose first row leaves first.
  const auto leaves_after = [](const LeavingRow& a, const LeavingRow& b) {
    return b.LeavesBefore(a);
  };
  std::make_heap(rows.begin(), rows.end(), leaves_after);
  std::vector<LeavingRow> leaving;
  while (!rows.empty() && (static_cast<int64_t>(rows.size()) > most_rows || bytes > most_bytes)) {
    std::pop_heap(rows.begin(), rows.end(), leaves_after);
    leaving.push_back(rows.back());
    bytes -= rows.back().bytes;
    rows.pop_back();
  }
  return leaving;
}

}  // namespace tfps
