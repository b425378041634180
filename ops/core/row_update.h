// What a push, a day and an export mean for one row, whichever engine keeps it. The caller finds or
// makes the row, holds its lock, and gives it room for its mf part when it is admitted.
#ifndef OPS_CORE_ROW_UPDATE_H_
#define OPS_CORE_ROW_UPDATE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "ops/core/chunk_pool.h"
#include "ops/core/export_columns.h"
#include "ops/core/push_batch.h"
#include "ops/core/row.h"
#include "ops/core/shard_statistics.h"
#include "ops/core/table_config.h"

namespace tfps {

constexpr int kMaxRowFloats = ChunkPool::kChunkBytes / sizeof(float);

inline bool AllFinite(const float* values, int n) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t bad = 0;
  for (int i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, &values[i], sizeof(bits));
    bad |= (bits & kExponent) == kExponent;
  }
  return bad == 0;
}

// Makes an unadmitted row that was never pushed, in memory for one.
inline void InitRow(uint64_t key, int32_t slot, const Policy& policy, RowHead* row) {
  *row = {key, 0, 0, 0, slot, 0, 0};
  float* floats = Floats(row);
  floats[0] = 0;
  policy.lr.InitState(floats + policy.layout.lr_state(), 1);
}

// Admits a row that lies in memory for an admitted one.
inline void InitMfPart(const TableOptions& options, const Policy& policy, RowHead* row) {
  const RowLayout& layout = policy.layout;
  float* floats = Floats(row);
  InitMf(options.seed, row->key, options.mf_init_range, floats + layout.mf_w(), layout.mf_dim);
  policy.mf.InitState(floats + layout.mf_state(), layout.mf_dim);
  row->flags |= kAdmitted;
}

// Applies the push at `position` of a batch to a row: its counts, and one step of each optimizer
// that it has a state for. A row that did not exist before this push may be admitted already; its
// mf vector takes no step. `policy` is that of the row's slot, `gradient` scratch for kMaxRowFloats.
// Returns whether the row is to be admitted now.
inline bool UpdateRow(const TableOptions& options, const Policy& policy, bool existed,
                      const PushBatch& batch, int64_t position, RowHead* row, float* gradient,
                      ShardStatistics* statistics) {
  const Accessor& accessor = policy.accessor;
  const RowLayout& layout = policy.layout;
  const float* g = batch.gradients + position * batch.width;
  const float show_f = batch.show[position];
  const double show = show_f;
  const double click = batch.click[position];

  if (row->slot != batch.slots[position]) ++statistics->slot_conflicts;
  ++statistics->pushed_keys;
  row->show += show;
  row->click += click;
  row->delta_score += accessor.Score(show, click);
  row->unseen_days = 0;
  statistics->show += show;
  statistics->click += click;

  const int given = std::min(batch.width, 1 + layout.mf_dim);
  if (options.gradient_scale == GradientScale::kPerShow && show_f > 0) {
    for (int d = 0; d < given; ++d) gradient[d] = g[d] / show_f;
    g = gradient;
  }
  if (AllFinite(g, given)) {
    float* floats = Floats(row);
    policy.lr.Step(floats, floats + layout.lr_state(), g, 1);
    if (existed && IsAdmitted(row)) {
      if (given <= layout.mf_dim) {
        if (g != gradient) std::copy_n(g, given, gradient);
        std::fill(gradient + given, gradient + 1 + layout.mf_dim, 0.0f);
        g = gradient;
      }
      policy.mf.Step(floats + layout.mf_w(), floats + layout.mf_state(), g + 1, layout.mf_dim);
    }
  } else {
    ++statistics->nonfinite_gradients;
  }
  return !IsAdmitted(row) && accessor.Admits(row->show, row->click);
}

// Whether the row leaves at a day's end.
inline bool IsDue(const TableConfig& config, const RowHead* row) {
  return config.PolicyOf(row).accessor.Evicts(row->show, row->click, row->unseen_days);
}

inline bool IsExported(const TableConfig& config, Export which, const RowHead* row) {
  const Accessor& accessor = config.PolicyOf(row).accessor;
  return which == Export::kBase
             ? accessor.InBase(row->show, row->click, row->delta_score, row->unseen_days)
             : accessor.InDelta(row->show, row->click, row->delta_score, row->unseen_days);
}

// Whether a delta removes the row: serving holds it, and a base would not.
inline bool IsRemoved(const TableConfig& config, const RowHead* row) {
  return (row->flags & kServed) && !IsExported(config, Export::kBase, row);
}

}  // namespace tfps

#endif  // OPS_CORE_ROW_UPDATE_H_
