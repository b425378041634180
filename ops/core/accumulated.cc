#include "ops/core/accumulated.h"

#include <algorithm>

#include "ops/core/hash.h"
#include "ops/core/unique_index.h"

namespace tfps {
namespace {

// Sums the batches that it is given, row by row.
class Merger {
 public:
  // `rows_of` has for each reader the most rows that it may have.
  Merger(const std::map<int32_t, int64_t>& rows_of, int width, bool with_step_show,
         bool with_readers)
      : with_step_show_(with_step_show), with_readers_(with_readers) {
    for (const auto& [reader, rows] : rows_of) indices_.try_emplace(reader, rows);
    merged_.width = width;
  }

  void Add(const OwnedBatch& batch) {
    int32_t reader = kOwnSlot;
    UniqueIndex* index = nullptr;
    for (size_t i = 0; i < batch.keys.size(); ++i) {
      const int64_t key = batch.keys[i];
      if (static_cast<uint64_t>(key) == kPadding) continue;
      const int32_t next = batch.readers.empty() ? kOwnSlot : batch.readers[i];
      if (index == nullptr || next != reader) index = &indices_.at(reader = next);
      uint32_t& entry = index->Find(key, SplitMix64(static_cast<uint64_t>(key)), merged_.keys);
      if (entry == 0) {
        merged_.keys.push_back(key);
        merged_.slots.push_back(batch.slots[i]);
        if (with_readers_) merged_.readers.push_back(reader);
        show_.push_back(0);
        click_.push_back(0);
        if (with_step_show_) step_show_.push_back(kFrozen);
        merged_.gradients.resize(merged_.keys.size() * merged_.width);
        entry = static_cast<uint32_t>(merged_.keys.size());
      }
      const size_t row = entry - 1;
      show_[row] += batch.show[i];
      click_[row] += batch.click[i];
      if (with_step_show_) {
        const float show = batch.step_show.empty() ? batch.show[i] : batch.step_show[i];
        if (IsFrozen(show)) continue;
        step_show_[row] = IsFrozen(step_show_[row]) ? show : step_show_[row] + show;
      }
      const float* const gradient = &batch.gradients[i * batch.width];
      float* const sum = &merged_.gradients[row * merged_.width];
      for (int d = 0; d < batch.width; ++d) sum[d] += gradient[d];
    }
  }

  OwnedBatch Take() {
    merged_.show.assign(show_.begin(), show_.end());
    merged_.click.assign(click_.begin(), click_.end());
    merged_.step_show.assign(step_show_.begin(), step_show_.end());
    return std::move(merged_);
  }

 private:
  std::map<int32_t, UniqueIndex> indices_;  // by reader
  OwnedBatch merged_;
  const bool with_step_show_, with_readers_;
  std::vector<double> show_, click_, step_show_;
};

}  // namespace

OwnedBatch::OwnedBatch(const PushBatch& batch)
    : width(batch.width),
      keys(batch.keys, batch.keys + batch.n),
      slots(batch.slots, batch.slots + batch.n),
      show(batch.show, batch.show + batch.n),
      click(batch.click, batch.click + batch.n),
      gradients(batch.gradients, batch.gradients + batch.n * batch.width) {
  if (batch.step_show != nullptr) step_show.assign(batch.step_show, batch.step_show + batch.n);
  if (batch.readers != nullptr) readers.assign(batch.readers, batch.readers + batch.n);
}

PushBatch OwnedBatch::View() const {
  PushBatch view = {};
  view.n = static_cast<int64_t>(keys.size());
  view.width = width;
  view.keys = reinterpret_cast<const uint64_t*>(keys.data());
  view.slots = slots.data();
  view.show = show.data();
  view.click = click.data();
  view.gradients = gradients.data();
  if (!step_show.empty()) view.step_show = step_show.data();
  if (!readers.empty()) view.readers = readers.data();
  return view;
}

void Accumulated::Add(const PushBatch& batch, int64_t ticket, int64_t batch_number) {
  OwnedBatch copy(batch);
  std::lock_guard<std::mutex> lock(mutex_);
  batches_.emplace(std::make_pair(ticket, batch_number), std::move(copy));
}

OwnedBatch Accumulated::TakeMerged() {
  Batches batches = TakeAll();
  std::map<int32_t, int64_t> rows_of;
  int width = 0;
  bool with_step_show = false, with_readers = false;
  for (const auto& [step, batch] : batches) {
    if (batch.readers.empty()) rows_of[kOwnSlot] += static_cast<int64_t>(batch.keys.size());
    for (const int32_t reader : batch.readers) ++rows_of[reader];
    width = std::max(width, batch.width);
    with_step_show |= !batch.step_show.empty();
    with_readers |= !batch.readers.empty();
  }
  Merger merger(rows_of, width, with_step_show, with_readers);
  // A batch is freed as soon as it is merged.
  for (auto next = batches.begin(); next != batches.end(); next = batches.erase(next)) {
    merger.Add(next->second);
  }
  return merger.Take();
}

void Accumulated::Clear() { TakeAll(); }

Accumulated::Batches Accumulated::TakeAll() {
  Batches all;
  std::lock_guard<std::mutex> lock(mutex_);
  all.swap(batches_);
  return all;
}

}  // namespace tfps
