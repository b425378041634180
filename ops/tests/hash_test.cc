#include "ops/core/hash.h"

#include <set>
#include <vector>

#include "ops/tests/check.h"

namespace tfps {

// The first outputs of the published generator, seeded with 1234567.
TEST(SplitMix64MatchesThePublishedSequence) {
  const uint64_t expected[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                               4593380528125082431u, 16408922859458223821u};
  uint64_t state = 1234567;
  for (uint64_t value : expected) {
    CHECK_EQ(SplitMix64(state), value);
    state += 0x9e3779b97f4a7c15;
  }
}

TEST(SmallConsecutiveKeysSpreadEvenly) {
  constexpr int kShards = 64, kPerShard = 1000;
  std::vector<int> counts(kShards);
  for (uint64_t key = 1; key <= kShards * kPerShard; ++key) ++counts[VirtualShard(key, kShards)];
  for (int count : counts) {  // Binomial: 5 standard deviations are about 158.
    CHECK_GT(count, kPerShard - 160);
    CHECK_LT(count, kPerShard + 160);
  }
}

TEST(VirtualShardIsInRange) {
  for (uint32_t shards : {1u, 3u, 1024u, 65536u}) {
    for (uint64_t key = 0; key < 10000; ++key) CHECK_LT(VirtualShard(key, shards), shards);
  }
  CHECK_EQ(VirtualShardOfHash(~0ull, 1000), 999u);
  CHECK_EQ(VirtualShardOfHash(0xffffffff, 1000), 0u);  // The lower half does not count.
}

TEST(OnlyServingsTwoKeysAreReserved) {
  CHECK_TRUE(IsReserved(static_cast<uint64_t>(INT64_MIN)));
  CHECK_TRUE(IsReserved(static_cast<uint64_t>(INT64_MIN + 1)));
  CHECK_FALSE(IsReserved(static_cast<uint64_t>(INT64_MIN + 2)));
  CHECK_FALSE(IsReserved(static_cast<uint64_t>(INT64_MAX)));
  CHECK_FALSE(IsReserved(kPadding));
}

}  // namespace tfps
