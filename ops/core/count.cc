#include "ops/core/count.h"

#include <vector>

namespace tfps {

void Count(const Bags& bags, const float* show, const float* click, int64_t num_rows,
           float* row_show, float* row_click) {
  struct Counts {
    double show = 0;
    double click = 0;
  };
  std::vector<Counts> counts(num_rows);  // One cache line for both.
  for (int64_t s = 0; s < bags.num_slots; ++s) {
    for (int64_t b = 0; b < bags.batch_size; ++b) {
      const int64_t bag = s * bags.batch_size + b;
      for (int64_t i = bags.row_splits[bag]; i < bags.row_splits[bag + 1]; ++i) {
        if (bags.positions[i] < 0) continue;
        Counts& row = counts[bags.positions[i]];
        row.show += show[b];
        row.click += click[b];
      }
    }
  }
  for (int64_t row = 0; row < num_rows; ++row) {
    row_show[row] = static_cast<float>(counts[row].show);
    row_click[row] = static_cast<float>(counts[row].click);
  }
}

}  // namespace tfps
