#include "ops/core/count.h"

#include <vector>

#include "ops/tests/check.h"

namespace tfps {
namespace {

struct Counts {
  std::vector<float> show, click;
};

Counts Run(const std::vector<int32_t>& positions, const std::vector<int64_t>& row_splits,
           const std::vector<float>& show, const std::vector<float>& click, int64_t num_rows) {
  const int64_t batch_size = static_cast<int64_t>(show.size());
  const int64_t num_bags = static_cast<int64_t>(row_splits.size()) - 1;
  const Bags bags = {positions.data(), static_cast<int64_t>(positions.size()), row_splits.data(),
                     batch_size == 0 ? 0 : num_bags / batch_size, batch_size};
  CHECK_EQ(CheckBags(bags, num_rows), "");
  Counts counts = {std::vector<float>(num_rows, -7), std::vector<float>(num_rows, -7)};
  Count(bags, show.data(), click.data(), num_rows, counts.show.data(), counts.click.data());
  return counts;
}

}  // namespace

TEST(EveryOccurrenceCounts) {
  // Slot 0: example 0 has row 0 twice, example 1 rows 1 and padding. Slot 1: row 0, and nothing.
  const Counts counts = Run({0, 0, 1, -1, 0}, {0, 2, 4, 5, 5}, {1, 2}, {0.5, 2}, 3);
  CHECK_TRUE((counts.show == std::vector<float>{3, 2, 0}));
  CHECK_TRUE((counts.click == std::vector<float>{1.5, 2, 0}));
}

// In float, 2^24 + 1 would stay at 2^24.
TEST(SumsAreTakenInDouble) {
  const Counts counts = Run({0, 0, 0}, {0, 1, 2, 3}, {16777216, 1, 1}, {0, 0, 0}, 1);
  CHECK_EQ(counts.show[0], 16777218.0f);
}

TEST(EmptyInputs) {
  CHECK_EQ(Run({}, {0}, {}, {}, 0).show.size(), 0u);
  CHECK_EQ(Run({}, {0}, {}, {}, 2).show[1], 0);
  CHECK_EQ(Run({}, {0, 0, 0}, {1}, {1}, 0).show.size(), 0u);
}

}  // namespace tfps
