#include "ops/core/accessor.h"

#include "ops/tests/check.h"

namespace tfps {

TEST(ScoreWeighsClicksAndOtherShows) {
  const Accessor accessor{AccessorOptions()};
  CHECK_NEAR(accessor.Score(10, 0), 1.0, 1e-15);
  CHECK_NEAR(accessor.Score(10, 10), 10.0, 1e-15);
  CHECK_NEAR(accessor.Score(10, 4), 6 * 0.1 + 4, 1e-15);
}

TEST(DefaultsAdmitAt100ShowsOr10Clicks) {
  const Accessor accessor{AccessorOptions()};
  CHECK_FALSE(accessor.Admits(99, 0));
  CHECK_TRUE(accessor.Admits(100, 0));
  CHECK_FALSE(accessor.Admits(9, 9));
  CHECK_TRUE(accessor.Admits(10, 10));
}

TEST(EvictsByScoreOrByDaysUnseen) {
  AccessorOptions options;
  options.nonclk_coeff = 0.5;
  options.delete_threshold = 2;
  options.delete_after_unseen_days = 3;
  const Accessor accessor(options);
  CHECK_FALSE(accessor.Evicts(4, 0, 0));  // A score of exactly the threshold stays.
  CHECK_TRUE(accessor.Evicts(3.999, 0, 0));
  CHECK_FALSE(accessor.Evicts(4, 0, 3));  // Exactly that many days stay, too.
  CHECK_TRUE(accessor.Evicts(4, 0, 4));
}

TEST(AgeDecaysCountsAndSaturatesDays) {
  AccessorOptions options;
  options.decay_rate = 0.5;
  const Accessor accessor(options);
  double show = 8, click = 3;
  uint16_t unseen_days = 65534;
  accessor.Age(&show, &click, &unseen_days);
  CHECK_EQ(show, 4.0);
  CHECK_EQ(click, 1.5);
  CHECK_EQ(unseen_days, 65535);
  accessor.Age(&show, &click, &unseen_days);
  CHECK_EQ(unseen_days, 65535);
}

}  // namespace tfps
