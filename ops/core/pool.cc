#include "ops/core/pool.h"

#include <algorithm>
#include <cmath>

namespace tfps {
namespace {

float Weight(const PoolInput& input, int64_t i) {
  return input.weights == nullptr ? 1.0f : input.weights[i];
}

// What the weighted sum over ids [begin, end) is multiplied by.
float Scale(const PoolInput& input, Combiner combiner, int64_t begin, int64_t end) {
  if (combiner == Combiner::kSum) return 1.0f;
  double divisor = 0;
  for (int64_t i = begin; i < end; ++i) {
    if (input.bags.positions[i] < 0) continue;
    const double weight = Weight(input, i);
    divisor += combiner == Combiner::kMean ? weight : weight * weight;
  }
  if (combiner == Combiner::kSqrtn) divisor = std::sqrt(divisor);
  return divisor == 0 ? 0.0f : static_cast<float>(1 / divisor);
}

// Calls visit(row, weight) for each id of slot s of example b that is not padding. The combiner is
// in the weight.
template <typename Visit>
void ForEachId(const PoolInput& input, int64_t s, int64_t b, const Visit& visit) {
  const int64_t bag = s * input.bags.batch_size + b;
  const int64_t begin = input.bags.row_splits[bag], end = input.bags.row_splits[bag + 1];
  const float scale = Scale(input, input.combiners[s], begin, end);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t row = input.bags.positions[i];
    if (row >= 0) visit(row, Weight(input, i) * scale);
  }
}

// sum[0 : size] = weight * values[0 : size]. In fours, which the compiler makes one instruction.
void SetScaled(float weight, const float* __restrict values, int64_t size, float* __restrict sum) {
  int64_t d = 0;
  for (; d + 4 <= size; d += 4) {
    for (int k = 0; k < 4; ++k) sum[d + k] = weight * values[d + k];
  }
  for (; d < size; ++d) sum[d] = weight * values[d];
}

// sum[0 : size] += weight * values[0 : size].
void AddScaled(float weight, const float* __restrict values, int64_t size, float* __restrict sum) {
  int64_t d = 0;
  for (; d + 4 <= size; d += 4) {
    for (int k = 0; k < 4; ++k) sum[d + k] += weight * values[d + k];
  }
  for (; d < size; ++d) sum[d] += weight * values[d];
}

}  // namespace

bool ParseCombiner(const std::string& name, Combiner* combiner) {
  if (name == "sum") {
    *combiner = Combiner::kSum;
  } else if (name == "mean") {
    *combiner = Combiner::kMean;
  } else if (name == "sqrtn") {
    *combiner = Combiner::kSqrtn;
  } else {
    return false;
  }
  return true;
}

void Pool(const PoolInput& input, const float* rows, float* lr, float* mf,
          const ParallelFor& parallel_for) {
  const int64_t num_slots = input.bags.num_slots, batch_size = input.bags.batch_size;
  const int64_t width = input.row_width, mf_dim = width - 1;
  if (num_slots == 0 || batch_size == 0) return;
  // An id costs a row that is seldom in the nearest cache, and its floats.
  const int64_t cost = (20 + 2 * width) * (num_slots + input.bags.num_ids / batch_size);
  parallel_for(batch_size, cost, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      for (int64_t s = 0; s < num_slots; ++s) {
        float lr_sum = 0;
        float* const mf_sum = mf + (b * num_slots + s) * mf_dim;
        bool empty = true;
        ForEachId(input, s, b, [&](int64_t row_index, float weight) {
          const float* const row = rows + row_index * width;
          lr_sum += weight * row[0];
          if (empty) {
            SetScaled(weight, row + 1, mf_dim, mf_sum);
          } else {
            AddScaled(weight, row + 1, mf_dim, mf_sum);
          }
          empty = false;
        });
        if (empty) std::fill_n(mf_sum, mf_dim, 0.0f);
        lr[b * num_slots + s] = lr_sum;
      }
    }
  });
}

// On one thread: examples share rows, and this is a small part of a step.
void PoolGrad(const PoolInput& input, const float* lr_grad, const float* mf_grad, int64_t num_rows,
              float* rows_grad) {
  const int64_t num_slots = input.bags.num_slots;
  const int64_t width = input.row_width, mf_dim = width - 1;
  std::fill_n(rows_grad, num_rows * width, 0.0f);
  for (int64_t b = 0; b < input.bags.batch_size; ++b) {
    for (int64_t s = 0; s < num_slots; ++s) {
      const float bag_lr_grad = lr_grad[b * num_slots + s];
      const float* const bag_mf_grad = mf_grad + (b * num_slots + s) * mf_dim;
      ForEachId(input, s, b, [&](int64_t row_index, float weight) {
        float* const row = rows_grad + row_index * width;
        row[0] += weight * bag_lr_grad;
        AddScaled(weight, bag_mf_grad, mf_dim, row + 1);
      });
    }
  }
}

}  // namespace tfps
