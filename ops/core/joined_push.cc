#include "ops/core/joined_push.h"

#include "ops/core/hash.h"
#include "ops/core/unique_index.h"

namespace tfps {

JoinedPush::JoinedPush(const PushBatch& batch, GradientScale scale) {
  UniqueIndex index(batch.n);
  gradients_.reserve(batch.n * batch.width);
  int64_t counted = 0;
  for (const bool counts : {true, false}) {
    for (int64_t i = 0; i < batch.n; ++i) {
      if (ReaderCounts(batch.readers[i]) != counts) continue;
      const int64_t key = static_cast<int64_t>(batch.keys[i]);
      uint32_t& entry = index.Find(key, SplitMix64(batch.keys[i]), keys_);
      if (entry == 0) {
        Append(batch, i, counts);
        entry = static_cast<uint32_t>(keys_.size());
        continue;
      }
      const int64_t row = int64_t{entry} - 1;
      if (counts) {
        show_sums_[row] += batch.show[i];
        click_sums_[row] += batch.click[i];
      }
      if (!IsFrozen(batch.StepShow(i))) AddGradient(batch, i, scale, row);
    }
    if (counts) counted = static_cast<int64_t>(keys_.size());
  }
  show_.assign(show_sums_.begin(), show_sums_.end());
  click_.assign(click_sums_.begin(), click_sums_.end());
  batch_.n = static_cast<int64_t>(keys_.size());
  batch_.width = batch.width;
  batch_.keys = reinterpret_cast<const uint64_t*>(keys_.data());
  batch_.slots = slots_.data();
  batch_.show = show_.data();
  batch_.click = click_.data();
  batch_.gradients = gradients_.data();
  batch_.references = batch.references == nullptr ? nullptr : references_.data();
  batch_.step_show = step_show_.data();
  batch_.uncounted = batch_.n - counted;
}

void JoinedPush::Append(const PushBatch& from, int64_t i, bool counts) {
  keys_.push_back(static_cast<int64_t>(from.keys[i]));
  slots_.push_back(from.slots[i]);
  if (from.references != nullptr) references_.push_back(from.references[i]);
  show_sums_.push_back(counts ? from.show[i] : 0);
  click_sums_.push_back(counts ? from.click[i] : 0);
  step_show_.push_back(from.StepShow(i));
  const float* const gradient = from.gradients + i * from.width;
  gradients_.insert(gradients_.end(), gradient, gradient + from.width);
}

void JoinedPush::AddGradient(const PushBatch& from, int64_t i, GradientScale scale, int64_t row) {
  const auto divisor = [&](float step_show) {
    return scale == GradientScale::kPerShow && step_show > 0 ? step_show : 1;
  };
  const float* const gradient = from.gradients + i * from.width;
  float* const sum = gradients_.data() + row * from.width;
  const float step_show = from.StepShow(i);
  float& joined = step_show_[row];
  if (IsFrozen(joined)) {
    joined = step_show;
    for (int d = 0; d < from.width; ++d) sum[d] = gradient[d];
    return;
  }
  const float own = divisor(step_show), before = divisor(joined);
  for (int d = 0; d < from.width; ++d) sum[d] = sum[d] / before + gradient[d] / own;
  joined = 1;  // It is scaled already.
}

}  // namespace tfps
