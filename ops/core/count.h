// How often each pulled feasign occurred in a batch, and how often with a click.
#ifndef OPS_CORE_COUNT_H_
#define OPS_CORE_COUNT_H_

#include <cstdint>

#include "ops/core/bags.h"

namespace tfps {

// Sets row_show (num_rows) and row_click (num_rows) to the sums of show (batch_size) and click
// (batch_size) over each row's occurrences, twice for a feasign that is twice in one example. Sums
// are taken in double. `bags` must have passed CheckBags.
void Count(const Bags& bags, const float* show, const float* click, int64_t num_rows,
           float* row_show, float* row_click);

}  // namespace tfps

#endif  // OPS_CORE_COUNT_H_
