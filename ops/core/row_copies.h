// Copies rows out of a table and back, with one function for each form that they have outside.
#ifndef OPS_CORE_ROW_COPIES_H_
#define OPS_CORE_ROW_COPIES_H_

#include <algorithm>
#include <cstdint>

#include "ops/core/columns.h"
#include "ops/core/push_batch.h"
#include "ops/core/row.h"
#include "ops/core/table_config.h"

namespace tfps {

// Writes lr_w and as much of mf_w as the row has and as fits into `width` floats, then zeros.
// nullptr stands for no row. Needs no lock.
inline void CopyPulled(const TableConfig& config, const RowHead* row, int width, float* out) {
  if (row == nullptr) {
    std::fill_n(out, width, 0.0f);
    return;
  }
  LoadWeights(Floats(row), 1, out);
  int copied = 1;
  if (LoadShared(&row->flags) & kAdmitted) {
    const RowLayout& layout = config.PolicyOf(LoadShared(&row->slot)).layout;
    const int wanted = std::min(layout.mf_dim, width - 1);
    LoadWeights(Floats(row) + layout.mf_w(), wanted, out + 1);
    copied += wanted;
  }
  std::fill(out + copied, out + width, 0.0f);
}

// Writes show and click. nullptr stands for no row.
inline void CopyCounts(const RowHead* row, float* counts) {
  counts[0] = row == nullptr ? 0 : static_cast<float>(row->show);
  counts[1] = row == nullptr ? 0 : static_cast<float>(row->click);
}

// Writes everything about a row to index `i`. nullptr stands for no row.
inline void CopyInspected(const TableConfig& config, const RowHead* row, int64_t i,
                          const InspectedRows& out) {
  static constexpr RowHead kAbsent = {};
  const bool found = row != nullptr;
  if (!found) row = &kAbsent;
  out.found[i] = found;
  out.slot[i] = row->slot;
  out.statistics[3 * i] = row->show;
  out.statistics[3 * i + 1] = row->click;
  out.statistics[3 * i + 2] = row->delta_score;
  out.unseen_days[i] = row->unseen_days;
  out.admitted[i] = row->flags & kAdmitted;
  out.served[i] = row->flags & kServed;
  float* floats = out.floats + i * config.row_floats();
  float* const end = floats + config.row_floats();
  if (found) floats = std::copy_n(Floats(row), config.FloatsOf(row), floats);
  std::fill(floats, end, 0.0f);
}

// Writes a row to index `i`, and its floats to `floats`; returns the end of the floats.
inline float* CopyToColumns(const TableConfig& config, const RowHead* row, int64_t i,
                            const RowColumns& out, float* floats) {
  out.keys[i] = row->key;
  out.slots[i] = row->slot;
  out.statistics[3 * i] = row->show;
  out.statistics[3 * i + 1] = row->click;
  out.statistics[3 * i + 2] = row->delta_score;
  out.unseen_days[i] = row->unseen_days;
  out.flags[i] = row->flags & kSavedFlags;
  return std::copy_n(Floats(row), config.FloatsOf(row), floats);
}

// Fills a row from index `i` of `columns` and from `floats`. `row` has memory for all of it.
inline void CopyFromColumns(const TableConfig& config, const RowColumns& columns, int64_t i,
                            const float* floats, RowHead* row) {
  const double* statistics = columns.statistics + 3 * i;
  row->show = statistics[0];
  row->click = statistics[1];
  row->delta_score = statistics[2];
  row->unseen_days = columns.unseen_days[i];
  SetKey(row, columns.keys[i]);
  SetSlot(row, columns.slots[i]);
  SetFlags(row, columns.flags[i] & kSavedFlags);
  StoreWeights(floats, config.FloatsOf(columns, i), Floats(row));
}

// Writes a row to index `i` of an export.
inline void CopyExported(const TableConfig& config, const RowHead* row, int64_t i,
                         const ExportColumns& out) {
  const int width = 1 + config.mf_dim();
  out.keys[i] = row->key;
  out.slots[i] = row->slot;
  out.delta_scores[i] = row->delta_score;
  CopyPulled(config, row, width, out.rows + i * out.width);
  if (out.width > width) CopyCounts(row, out.rows + i * out.width + width);
}

}  // namespace tfps

#endif  // OPS_CORE_ROW_COPIES_H_
