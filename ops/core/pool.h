// Pooling: sums the rows of each bag; and its gradient.
#ifndef OPS_CORE_POOL_H_
#define OPS_CORE_POOL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "ops/core/bags.h"
#include "ops/core/parallel.h"

namespace tfps {

// The same as in tf.nn.embedding_lookup_sparse: mean divides by the sum of the weights, sqrtn by
// the root of the sum of their squares. A bag whose divisor is 0 pools to 0.
enum class Combiner : uint8_t { kSum, kMean, kSqrtn };

// Sets `combiner` from "sum", "mean" or "sqrtn"; false if `name` is none of them.
bool ParseCombiner(const std::string& name, Combiner* combiner);

struct PoolInput {
  Bags bags;
  const float* weights;             // (num_ids), or null where every weight is 1
  std::vector<Combiner> combiners;  // (num_slots)
  int64_t row_width;                // lr_w and mf_w: 1 + mf_dim
};

// Pools column 0 of rows (num_rows, row_width) into lr (batch_size, num_slots) and the others into
// mf (batch_size, num_slots, row_width - 1). `bags` must have passed CheckBags.
void Pool(const PoolInput& input, const float* rows, float* lr, float* mf,
          const ParallelFor& parallel_for);

// Sets rows_grad (num_rows, row_width) from the gradients of what Pool wrote.
void PoolGrad(const PoolInput& input, const float* lr_grad, const float* mf_grad, int64_t num_rows,
              float* rows_grad);

}  // namespace tfps

#endif  // OPS_CORE_POOL_H_
