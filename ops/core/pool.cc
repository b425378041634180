#include "ops/core/pool.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace tfps {
namespace {

float Weight(const PoolInput& input, int64_t i) {
  return input.weights == nullptr ? 1.0f : input.weights[i];
}

// The factor of the weighted sum over ids [begin, end).
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

// Examples are handled in blocks, slot by slot: the ids of two slots are batch_size apart, which,
// if that is a power of two, is the same set of the nearest cache.
constexpr int64_t kBlockExamples = 16;

// Calls visit(bag, begin, end, scale) for each bag of examples [first, last): its ids and the
// factor of the combiner.
template <typename Visit>
void ForEachBag(const PoolInput& input, int64_t first, int64_t last, const Visit& visit) {
  const int64_t num_slots = input.bags.num_slots;
  for (int64_t block = first; block < last; block += kBlockExamples) {
    const int64_t block_end = std::min(block + kBlockExamples, last);
    for (int64_t s = 0; s < num_slots; ++s) {
      const int64_t* splits = input.bags.row_splits + s * input.bags.batch_size;
      for (int64_t b = block; b < block_end; ++b) {
        const int64_t begin = splits[b], end = splits[b + 1];
        visit(b * num_slots + s, begin, end, Scale(input, input.combiners[s], begin, end));
      }
    }
  }
}

// sum[0 : size] = weight * values[0 : size]. Blocks of four become one instruction.
inline void SetScaled(float weight, const float* __restrict values, int64_t size,
                      float* __restrict sum) {
  const int64_t fours = size / 4 * 4;
  for (int64_t d = 0; d < fours; d += 4) {
    for (int k = 0; k < 4; ++k) sum[d + k] = weight * values[d + k];
  }
  for (int64_t d = fours; d < size; ++d) sum[d] = weight * values[d];
}

// sum[0 : size] += weight * values[0 : size].
inline void AddScaled(float weight, const float* __restrict values, int64_t size,
                      float* __restrict sum) {
  const int64_t fours = size / 4 * 4;
  for (int64_t d = 0; d < fours; d += 4) {
    for (int k = 0; k < 4; ++k) sum[d + k] += weight * values[d + k];
  }
  for (int64_t d = fours; d < size; ++d) sum[d] += weight * values[d];
}

// Calls work(mf_dim) with common values as constants, for which the compiler unrolls the loops.
template <typename Work>
void WithMfDim(int64_t mf_dim, const Work& work) {
  switch (mf_dim) {
    case 8: return work(std::integral_constant<int64_t, 8>());
    case 16: return work(std::integral_constant<int64_t, 16>());
    default: return work(mf_dim);
  }
}

template <typename Dim>
void PoolExamples(const PoolInput& input, Dim mf_dim, const float* rows, int64_t first,
                  int64_t last, float* lr, float* mf) {
  ForEachBag(input, first, last, [&](int64_t bag, int64_t begin, int64_t end, float scale) {
    float lr_sum = 0;
    float* const mf_sum = mf + bag * mf_dim;
    bool empty = true;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t position = input.bags.positions[i];
      if (position < 0) continue;
      const float* const row = rows + position * (1 + mf_dim);
      const float weight = Weight(input, i) * scale;
      lr_sum += weight * row[0];
      if (empty) {
        SetScaled(weight, row + 1, mf_dim, mf_sum);
      } else {
        AddScaled(weight, row + 1, mf_dim, mf_sum);
      }
      empty = false;
    }
    if (empty) std::fill_n(mf_sum, static_cast<int64_t>(mf_dim), 0.0f);
    lr[bag] = lr_sum;
  });
}

template <typename Dim>
void AddGradients(const PoolInput& input, Dim mf_dim, const float* lr_grad, const float* mf_grad,
                  float* rows_grad) {
  ForEachBag(input, 0, input.bags.batch_size,
             [&](int64_t bag, int64_t begin, int64_t end, float scale) {
               for (int64_t i = begin; i < end; ++i) {
                 const int64_t position = input.bags.positions[i];
                 if (position < 0) continue;
                 const float weight = Weight(input, i) * scale;
                 float* const row = rows_grad + position * (1 + mf_dim);
                 row[0] += weight * lr_grad[bag];
                 AddScaled(weight, mf_grad + bag * mf_dim, mf_dim, row + 1);
               }
             });
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
  const int64_t width = input.row_width;
  if (num_slots == 0 || batch_size == 0) return;
  // An id costs a cache miss for its row, and its floats.
  const int64_t cost = (10 + width) * (num_slots + input.bags.num_ids / batch_size);
  parallel_for(batch_size, cost, [&](int64_t begin, int64_t end) {
    WithMfDim(width - 1,
              [&](auto mf_dim) { PoolExamples(input, mf_dim, rows, begin, end, lr, mf); });
  });
}

// On one thread: examples share rows, and this is a small part of a step.
void PoolGrad(const PoolInput& input, const float* lr_grad, const float* mf_grad, int64_t num_rows,
              float* rows_grad) {
  std::fill_n(rows_grad, num_rows * input.row_width, 0.0f);
  WithMfDim(input.row_width - 1,
            [&](auto mf_dim) { AddGradients(input, mf_dim, lr_grad, mf_grad, rows_grad); });
}

}  // namespace tfps
