#include "ops/tfra/shard.h"

#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "ops/core/row_copies.h"

namespace tfps {
namespace {

constexpr char kNoMemory[] =
    "TFRA's tables did not take some rows, as they do when the memory is used up; give the table "
    "more servers.";

}  // namespace

void TfraShard::PushOne(const PushBatch& batch, int64_t position, RowHead* row,
                        PushScratch* scratch) {
  const bool existed = !IsAbsent(row);
  if (!existed && !batch.Counts(position)) return;
  const RowPush push = {batch.slots[position],
                        batch.show[position],
                        batch.click[position],
                        batch.StepShow(position),
                        batch.gradients + position * batch.width,
                        batch.width,
                        batch.Counts(position)};
  const Policy& policy = config_.PolicyOf(existed ? row->slot : push.slot);
  if (!existed) {
    InitRow(batch.keys[position], push.slot, policy, row);
    if (IsAdmittedBy(push, policy.accessor, push.show, push.click)) {
      InitMfPart(config_.options(), policy, row);
    }
    keys_.push_back(row->key);
    Add(row);
  }
  Touch(row);
  if (!UpdateRow(config_.options(), policy, existed, push, row, scratch, &statistics_)) {
    return;
  }
  InitMfPart(config_.options(), policy, row);
  ++statistics_.admitted;
  statistics_.bytes += rows_.Bytes(policy, true) - rows_.Bytes(policy, false);
}

int64_t TfraShard::EndOfDay(int64_t day, const std::vector<uint64_t>* announced,
                            std::vector<RowHead>* left) {
  std::unique_lock<std::shared_mutex> lock(mutex_);
  if (finished_day_ >= day) return 0;
  std::vector<uint64_t> due, kept;
  statistics_.show = statistics_.click = 0;
  Update(keys_, Part::kHead, [&](RowHead* row) {
    if (IsDue(config_, row) &&
        (announced == nullptr ||
         std::binary_search(announced->begin(), announced->end(), row->key))) {
      if (left != nullptr) left->push_back(*row);
      if (row->flags & kServed) removals_.push_back({row->key, row->slot});
      due.push_back(row->key);
      return false;
    }
    config_.PolicyOf(row).accessor.Age(&row->show, &row->click, &row->unseen_days);
    statistics_.show += row->show;
    statistics_.click += row->click;
    kept.push_back(row->key);
    return true;
  });
  const ShardStatistics aged = statistics_;
  RemoveRows(due);
  statistics_.show = aged.show;  // which has no rows that were due
  statistics_.click = aged.click;
  const int64_t evicted = static_cast<int64_t>(due.size());
  statistics_.evicted += evicted;
  if (evicted > 0) keys_ = std::vector<uint64_t>(kept);  // without spare capacity
  finished_day_ = day;
  all_touched_ = true;
  return evicted;
}

void TfraShard::KeepLimit() {
  const RowLimit& limit = config_.limit();
  if (!limit.IsPassed(statistics_.rows,
                      config_.LimitBytes(statistics_.rows, statistics_.admitted))) {
    return;
  }
  std::vector<LeavingRow> rows;
  std::unordered_map<uint64_t, int32_t> served;  // the slots of such rows
  int64_t bytes = 0;
  Scan(keys_, Part::kHead, [&](const RowHead* row) {
    if (row->flags & kServed) served[row->key] = row->slot;
    rows.push_back(config_.Leaving(row, 0));
    bytes += rows.back().bytes;
  });
  if (!limit.IsPassed(statistics_.rows, bytes)) return;
  std::vector<uint64_t> leaving;
  for (const LeavingRow& row : limit.Leaving(std::move(rows), bytes)) {
    const auto found = served.find(row.key);
    if (found != served.end()) removals_.push_back({row.key, found->second});
    leaving.push_back(row.key);
  }
  RemoveRows(leaving);
  const std::unordered_set<uint64_t> gone(leaving.begin(), leaving.end());
  const auto is_gone = [&](uint64_t key) { return gone.count(key) != 0; };
  keys_.erase(std::remove_if(keys_.begin(), keys_.end(), is_gone), keys_.end());
  statistics_.evicted_at_limit += static_cast<int64_t>(leaving.size());
  all_touched_ = true;  // An increment of touched rows could not say which rows are gone.
}

ShardStatistics TfraShard::Statistics() const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  ShardStatistics statistics = statistics_;
  statistics.pulled_keys = pulled_keys_;
  statistics.fullness = config_.Fullness(statistics);
  statistics.bytes += 8 * static_cast<int64_t>(keys_.capacity() + touched_.capacity());
  return statistics;
}

ShardLoad TfraShard::Load() const {
  const ShardStatistics statistics = Statistics();
  return {statistics.rows, statistics.bytes, statistics.pulled_keys};
}

void TfraShard::AppendKeys(std::vector<uint64_t>* keys) const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  keys->insert(keys->end(), keys_.begin(), keys_.end());
}

void TfraShard::Inspect(uint64_t key, int64_t position, const InspectedRows& out) const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  RowBuffer row(config_, 1);
  rows_.Read(&key, 1, Part::kAll, &row);
  CopyInspected(config_, IsAbsent(row[0]) ? nullptr : row[0], position, out);
}

void TfraShard::PullCounts(uint64_t key, float* counts) const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  RowBuffer row(config_, 1);
  rows_.Read(&key, 1, Part::kHead, &row);
  CopyCounts(IsAbsent(row[0]) ? nullptr : row[0], counts);
}

ShardState TfraShard::ReadRows(Rows which, const AllocateColumns& allocate) {
  std::unique_lock<std::shared_mutex> lock(mutex_);
  const bool whole = which == Rows::kAll || all_touched_;
  const std::vector<uint64_t>& keys = whole ? keys_ : touched_;
  RowColumnsSize size = {0, 0};
  Scan(keys, Part::kHead, [&](const RowHead* row) {
    ++size.rows;
    size.floats += config_.FloatsOf(row);
  });
  const RowColumns out = allocate(size);
  int64_t i = 0;
  float* floats = out.floats;
  Scan(keys, Part::kAll,
       [&](const RowHead* row) { floats = CopyToColumns(config_, row, i++, out, floats); });
  ClearTouched();
  return {finished_day_, whole, removals_};
}

void TfraShard::TouchAll() {
  std::unique_lock<std::shared_mutex> lock(mutex_);
  all_touched_ = true;
}

std::optional<std::string> TfraShard::WriteRows(const RowColumns& columns,
                                                const RowColumnsSize& size,
                                                const ShardState& state) {
  std::vector<RowAt> rows;
  std::unordered_set<uint64_t> seen;
  const float* floats = columns.floats;
  for (int64_t i = 0; i < size.rows; ++i) {
    const uint64_t key = columns.keys[i];
    if (state.whole && !seen.insert(key).second) {
      return "Key " + std::to_string(static_cast<int64_t>(key)) + " comes twice.";
    }
    rows.push_back({i, floats});
    floats += config_.FloatsOf(columns, i);
  }
  std::unique_lock<std::shared_mutex> lock(mutex_);
  all_touched_ = true;
  try {
    if (state.whole) {
      RemoveRows(keys_);
      keys_.clear();
      statistics_.show = statistics_.click = 0;
    }
    PutRows(columns, rows);
  } catch (const std::exception&) {
    return kNoMemory;
  }
  finished_day_ = state.finished_day;
  removals_ = state.removals;
  return std::nullopt;
}

std::optional<std::string> TfraShard::Upsert(const RowColumns& columns,
                                             const std::vector<RowAt>& rows) {
  std::unique_lock<std::shared_mutex> lock(mutex_);
  try {
    PutRows(columns, rows);
    KeepLimit();
  } catch (const std::exception&) {
    return kNoMemory;
  }
  return std::nullopt;
}

// Inserts or overwrites rows; of several rows of one key the last one counts.
void TfraShard::PutRows(const RowColumns& columns, const std::vector<RowAt>& rows) {
  std::unordered_map<uint64_t, RowAt> last;
  std::vector<uint64_t> keys;
  for (const RowAt& row : rows) {
    const uint64_t key = columns.keys[row.i];
    if (last.insert_or_assign(key, row).second) keys.push_back(key);
  }
  const int64_t n = static_cast<int64_t>(keys.size());
  RowBuffer buffer(config_, std::min(n, kScanRows));
  for (int64_t begin = 0; begin < n; begin += kScanRows) {
    const int64_t count = std::min(n - begin, kScanRows);
    rows_.Read(&keys[begin], count, Part::kHead, &buffer);
    std::vector<uint64_t> old;
    std::vector<const RowHead*> put;
    std::vector<bool> touched;
    for (int64_t i = 0; i < count; ++i) {
      const bool existed = !IsAbsent(buffer[i]);
      if (existed) old.push_back(keys[begin + i]);
      touched.push_back(existed && (buffer[i]->flags & kTouched));
      if (!existed) keys_.push_back(keys[begin + i]);
    }
    RemoveRows(old);  // their mf parts may have another length, or be superfluous
    for (int64_t i = 0; i < count; ++i) {
      const RowAt& from = last.at(keys[begin + i]);
      CopyFromColumns(config_, columns, from.i, from.floats, buffer[i]);
      if (touched[i]) buffer[i]->flags |= kTouched;
      Touch(buffer[i]);
      Add(buffer[i]);
      put.push_back(buffer[i]);
    }
    rows_.Write(put, Part::kAll);
  }
}

int64_t TfraShard::CountExported(const ExportQuery& query) const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  int64_t rows = 0;
  Scan(keys_, Part::kHead, [&](const RowHead* row) { rows += IsExported(config_, query, row); });
  return rows;
}

int64_t TfraShard::Capture(const ExportQuery& query, int64_t room, const ExportColumns& out,
                           std::vector<Removal>* removed) {
  std::unique_lock<std::shared_mutex> lock(mutex_);
  int64_t rows = 0;
  Update(keys_, Part::kAll, [&](RowHead* row) {
    if (!IsExported(config_, query, row)) {
      if (IsRemoved(config_, query, row)) removed->push_back({row->key, row->slot});
      return false;
    }
    const int64_t i = rows++;
    if (i >= room) return false;
    CopyExported(config_, row, i, out);
    row->flags |= kCaptured;
    return true;
  });
  // A key that was pushed again is in the export with its new row.
  std::vector<uint64_t> pending;
  pending.reserve(removals_.size());
  for (const Removal& removal : removals_) pending.push_back(removal.key);
  std::unordered_set<uint64_t> exported;
  Scan(pending, Part::kHead, [&](const RowHead* row) {
    if (IsExported(config_, query, row)) exported.insert(row->key);
  });
  for (const Removal& removal : removals_) {
    if (query.Asks(removal) && exported.count(removal.key) == 0) removed->push_back(removal);
  }
  return rows;
}

void TfraShard::Commit(Export which, const std::vector<CapturedKey>& captured,
                       const std::vector<uint64_t>& removed) {
  std::unique_lock<std::shared_mutex> lock(mutex_);
  const auto drop = [&](RowHead* row) {
    row->flags &= ~kServed;
    Touch(row);
    return true;
  };
  if (which == Export::kBase) {
    Update(keys_, Part::kHead, [&](RowHead* row) { return (row->flags & kServed) && drop(row); });
  }
  Update(removed, Part::kHead, drop);
  std::unordered_map<uint64_t, double> delta_scores;
  std::vector<uint64_t> keys;
  for (const CapturedKey& row : captured) {
    keys.push_back(row.key);
    delta_scores[row.key] = row.delta_score;
  }
  if (!removals_.empty()) {
    std::unordered_set<uint64_t> done(removed.begin(), removed.end());
    done.insert(keys.begin(), keys.end());
    removals_.erase(
        std::remove_if(removals_.begin(), removals_.end(),
                       [&](const Removal& removal) { return done.count(removal.key) != 0; }),
        removals_.end());
  }
  Update(keys, Part::kHead, [&](RowHead* row) {
    if (!(row->flags & kCaptured)) return false;
    row->delta_score -= delta_scores.at(row->key);
    delta_scores.erase(row->key);
    row->flags |= kServed;
    Touch(row);
    return true;
  });
  for (const CapturedKey& row : captured) {  // The remaining keys were evicted meanwhile.
    if (delta_scores.count(row.key) != 0) removals_.push_back({row.key, row.slot});
  }
}

void TfraShard::Touch(RowHead* row) {
  if (all_touched_ || (row->flags & kTouched)) return;
  row->flags |= kTouched;
  touched_.push_back(row->key);
}

void TfraShard::ClearTouched() {
  Update(touched_, Part::kHead, [](RowHead* row) {
    const bool touched = row->flags & kTouched;
    row->flags &= ~kTouched;
    return touched;
  });
  touched_.clear();
  touched_.shrink_to_fit();
  all_touched_ = false;
}

void TfraShard::Add(const RowHead* row) {
  ++statistics_.rows;
  statistics_.admitted += IsAdmitted(row);
  statistics_.show += row->show;
  statistics_.click += row->click;
  statistics_.bytes += rows_.Bytes(config_.PolicyOf(row), IsAdmitted(row));
}

void TfraShard::Subtract(const RowHead* row) {
  --statistics_.rows;
  statistics_.admitted -= IsAdmitted(row);
  statistics_.show -= row->show;
  statistics_.click -= row->click;
  statistics_.bytes -= rows_.Bytes(config_.PolicyOf(row), IsAdmitted(row));
}

// Removes rows from TFRA's tables and the totals, not from `keys_`.
void TfraShard::RemoveRows(const std::vector<uint64_t>& keys) {
  const int64_t n = static_cast<int64_t>(keys.size());
  RowBuffer buffer(config_, std::min(n, kScanRows));
  for (int64_t begin = 0; begin < n; begin += kScanRows) {
    const int64_t count = std::min(n - begin, kScanRows);
    rows_.Read(&keys[begin], count, Part::kHead, &buffer);
    std::vector<const RowHead*> there;
    for (int64_t i = 0; i < count; ++i) {
      if (IsAbsent(buffer[i])) continue;
      Subtract(buffer[i]);
      there.push_back(buffer[i]);
    }
    rows_.Remove(there);
  }
}

}  // namespace tfps
