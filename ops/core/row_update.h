// What a push, a day's end and an export do to one row, in any engine. The caller finds or creates
// the row, holds its lock, and gives it memory for its mf part when it is admitted.
#ifndef OPS_CORE_ROW_UPDATE_H_
#define OPS_CORE_ROW_UPDATE_H_

#include <algorithm>
#include <cstdint>

#include "ops/core/chunk_pool.h"
#include "ops/core/columns.h"
#include "ops/core/finite.h"
#include "ops/core/push_batch.h"
#include "ops/core/row.h"
#include "ops/core/shard_statistics.h"
#include "ops/core/table_config.h"

namespace tfps {

constexpr int kMaxRowFloats = ChunkPool::kChunkBytes / sizeof(float);

// One row of a batch.
struct RowPush {
  int32_t slot;
  float show;
  float click;
  float step_show;        // the show that the gradient is of, or kFrozen
  const float* gradient;  // (width)
  int width;
  bool counts = true;  // otherwise it makes no row, admits none, and its show and click are 0
};

// Scratch memory.
struct PushScratch {
  float gradient[kMaxRowFloats];
  float stepped[kMaxRowFloats];
};

// Initialises an unadmitted row that was never pushed. `row` has memory for one.
inline void InitRow(uint64_t key, int32_t slot, const Policy& policy, RowHead* row) {
  row->show = row->click = row->delta_score = 0;
  row->unseen_days = 0;
  SetKey(row, key);
  SetSlot(row, slot);
  SetFlags(row, 0);
  float* floats = Floats(row);
  const float lr_w = 0;
  StoreWeights(&lr_w, 1, floats);
  policy.lr.InitState(floats + policy.layout.lr_state());
}

// Admits a row. It has memory for an admitted one.
inline void InitMfPart(const TableOptions& options, const Policy& policy, RowHead* row) {
  const RowLayout& layout = policy.layout;
  float mf_w[kMaxRowFloats];
  InitMf(options.seed, row->key, options.mf_init_range, mf_w, layout.mf_dim);
  StoreWeights(mf_w, layout.mf_dim, Floats(row) + layout.mf_w());
  policy.mf.InitState(Floats(row) + layout.mf_state());
  SetFlags(row, row->flags | kAdmitted);
}

// Returns the gradient to step with, at least 1 + mf_dim floats, perhaps in `scratch`.
inline const float* ScaleGradient(const TableOptions& options, const RowPush& push, int mf_dim,
                                  PushScratch* scratch) {
  const int given = std::min(push.width, 1 + mf_dim);
  const bool scaled = options.gradient_scale == GradientScale::kPerShow && push.step_show > 0 &&
                      push.step_show != 1;
  if (!scaled && given > mf_dim) return push.gradient;
  const float show = scaled ? push.step_show : 1;
  ForEachFloat(given, [&](int64_t d) { scratch->gradient[d] = push.gradient[d] / show; });
  std::fill(scratch->gradient + given, scratch->gradient + 1 + mf_dim, 0.0f);
  return scratch->gradient;
}

// Takes one step with the optimizer of lr_w and, if asked to, with that of mf_w; or none and
// returns false, if a weight or a state would not be finite. `stepped` is scratch memory.
inline bool StepRow(const Policy& policy, bool with_mf, const float* g, RowHead* row,
                    float* stepped) {
  const RowLayout& layout = policy.layout;
  float* const floats = Floats(row);
  const int n = layout.floats(with_mf);
  std::copy_n(floats, n, stepped);
  policy.lr.Step(stepped, stepped + layout.lr_state(), g);
  if (with_mf) policy.mf.Step(stepped + layout.mf_w(), stepped + layout.mf_state(), g + 1);
  if (!AllFinite(stepped, n)) return false;
  StoreWeights(stepped, 1, floats);
  std::copy_n(stepped + layout.lr_state(), layout.lr_state_floats, floats + layout.lr_state());
  if (with_mf) {
    StoreWeights(stepped + layout.mf_w(), layout.mf_dim, floats + layout.mf_w());
    std::copy_n(stepped + layout.mf_state(), layout.mf_state_floats, floats + layout.mf_state());
  }
  return true;
}

// Whether this push admits a row that has no mf vector and these counts after it.
inline bool IsAdmittedBy(const RowPush& push, const Accessor& accessor, double show, double click) {
  return push.counts && !IsFrozen(push.step_show) && accessor.Admits(show, click);
}

// Applies one push to a row: adds its counts and, unless it is frozen, takes one step with each
// optimizer that the row has a state of. A row that did not exist before this push may be admitted
// already, but its mf vector takes no step. `policy` is that of the row's slot. Returns whether to
// admit the row now.
[[gnu::always_inline]] inline bool UpdateRow(const TableOptions& options, const Policy& policy,
                                             bool existed, const RowPush& push, RowHead* row,
                                             PushScratch* scratch, ShardStatistics* statistics) {
  const Accessor& accessor = policy.accessor;
  const RowLayout& layout = policy.layout;
  const double show = push.show;
  const double click = push.click;

  if (row->slot != push.slot) ++statistics->slot_conflicts;
  ++statistics->pushed_keys;
  row->show += show;
  row->click += click;
  row->delta_score += accessor.Score(show, click);
  row->unseen_days = 0;
  statistics->show += show;
  statistics->click += click;

  if (IsFrozen(push.step_show)) return false;
  const float* g = ScaleGradient(options, push, layout.mf_dim, scratch);
  if (!AllFinite(g, std::min(push.width, 1 + layout.mf_dim)) ||
      !StepRow(policy, existed && IsAdmitted(row), g, row, scratch->stepped)) {
    ++statistics->nonfinite_gradients;
  }
  return !IsAdmitted(row) && IsAdmittedBy(push, accessor, row->show, row->click);
}

// Whether the row is evicted at a day's end.
inline bool IsDue(const TableConfig& config, const RowHead* row) {
  return config.PolicyOf(row).accessor.Evicts(row->show, row->click, row->unseen_days);
}

inline bool IsExported(const TableConfig& config, const ExportQuery& query, const RowHead* row) {
  if (!query.Asks(row->slot)) return false;
  const Accessor& accessor = config.PolicyOf(row).accessor;
  return query.which == Export::kBase
             ? accessor.InBase(row->show, row->click, row->delta_score, row->unseen_days)
             : accessor.InDelta(row->show, row->click, row->delta_score, row->unseen_days);
}

// Whether a delta removes the row: serving holds it, and a base would not.
inline bool IsRemoved(const TableConfig& config, const ExportQuery& query, const RowHead* row) {
  return (row->flags & kServed) && query.which == Export::kDelta && query.Asks(row->slot) &&
         !IsExported(config, {Export::kBase}, row);
}

}  // namespace tfps

#endif  // OPS_CORE_ROW_UPDATE_H_
