// Rows on their way to serving: key, and lr_w with mf_w, in columns whose memory the caller owns.
#ifndef OPS_CORE_EXPORT_COLUMNS_H_
#define OPS_CORE_EXPORT_COLUMNS_H_

#include <cstdint>
#include <functional>

namespace tfps {

// A base holds every row that serving needs, a delta those that changed enough since.
enum class Export { kBase, kDelta };

struct ExportColumns {
  uint64_t* keys;        // (n)
  float* rows;           // (n, 1 + the largest mf_dim): lr_w, mf_w; zeros beyond the row's own mf, or without one
  double* delta_scores;  // (n): what to take off once the export is durable
};

// Called once the number of rows is known; returns where they are to be written, keys == nullptr for
// nowhere.
using AllocateExport = std::function<ExportColumns(int64_t rows)>;

// A row that was captured, and the delta_score that it had.
struct CapturedKey {
  uint64_t key;
  double delta_score;
};

}  // namespace tfps

#endif  // OPS_CORE_EXPORT_COLUMNS_H_
