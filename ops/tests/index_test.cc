#include "ops/core/index.h"

#include <random>
#include <vector>

#include "ops/core/chunk_pool.h"
#include "ops/core/readers.h"
#include "ops/tests/check.h"

namespace tfps {
namespace {

// A row is its position in `keys`.
struct Indexed {
  void Insert(uint64_t key) {
    if (!index.HasRoom()) CHECK_TRUE(Rebuild());
    CHECK_EQ(Find(key), Index::kNone);
    index.Insert(SplitMix64(key), static_cast<uint32_t>(keys.size()));
    keys.push_back(key);
  }

  bool Rebuild() {
    return index.Rebuild(static_cast<uint32_t>(keys.size()) + 1, [&](auto visit) {
      for (uint32_t row = 0; row < keys.size(); ++row) visit(SplitMix64(keys[row]), row);
    });
  }

  uint32_t Find(uint64_t key) {
    return index.Find(SplitMix64(key), [&](uint32_t row) { return keys[row] == key; });
  }

  Readers readers{1};
  ChunkPool pool{&readers};
  std::atomic<uint64_t> published{0};
  Index index{&pool, &published, 0};
  std::vector<uint64_t> keys;
};

}  // namespace

TEST(TagsMatchAsTheyDoOneByOne) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 100'000; ++i) {
    uint64_t low = random(), high = random();
    const uint8_t tag = random();
    for (int copies = random() % 4; copies > 0; --copies) {
      uint64_t& word = random() % 2 ? low : high;
      const int shift = random() % 8 * 8;
      word = (word & ~(uint64_t{0xff} << shift)) | uint64_t{tag} << shift;
    }
    const Tags tags(low, high);
    CHECK_EQ(tags.Matches(tag), MatchesOneByOne(low, high, tag));
    CHECK_EQ(tags.LastBit(), (high >> 56 & 1) == 1);
  }
  CHECK_EQ(MatchesOneByOne(0x0700000000000007, 0x0700000000000000, 7), 0x8081u);
}

TEST(EveryInsertedRowIsFoundAtAnySize) {
  Indexed indexed;
  CHECK_EQ(indexed.Find(1), Index::kNone);
  CHECK_FALSE(indexed.index.HasRoom());
  for (uint64_t key = 1; key <= 300000; ++key) {
    indexed.Insert(key);
    const uint64_t old = 1 + SplitMix64(key) % key;
    CHECK_EQ(indexed.Find(old), old - 1);
    CHECK_EQ(indexed.Find(key + 1), Index::kNone);
  }
}

TEST(AtMostElevenBytesPerRow) {
  Indexed indexed;
  for (uint64_t key = 1; key <= 300000; ++key) {
    indexed.Insert(key);
    if (key > 12000) CHECK_LE(indexed.pool.bytes_in_use(), static_cast<int64_t>(11 * key));
  }
}

TEST(EqualHashesOfDifferentRowsAreTold) {
  Indexed indexed;
  CHECK_TRUE(indexed.index.Rebuild(40, [](auto) {}));
  for (uint32_t row = 0; row < 40; ++row) indexed.index.Insert(/*hash=*/77, row);
  for (uint32_t row = 0; row < 40; ++row) {
    CHECK_EQ(indexed.index.Find(77, [&](uint32_t candidate) { return candidate == row; }), row);
  }
  CHECK_EQ(indexed.index.Find(77, [](uint32_t) { return false; }), Index::kNone);
}

TEST(AHandleCanBeReplacedWithoutMovingItsEntry) {
  Indexed indexed;
  for (uint64_t key = 1; key <= 10; ++key) indexed.Insert(key);
  indexed.keys.resize(1 << 24);
  indexed.keys[(1 << 24) - 1] = 5;
  indexed.index.Replace(SplitMix64(5), 4, (1 << 24) - 1);
  indexed.keys[4] = 0;
  CHECK_EQ(indexed.Find(5), (1u << 24) - 1);
}

TEST(ErasedRowsAreGoneAndTheOthersStay) {
  Indexed indexed;
  for (uint64_t key = 1; key <= 20000; ++key) indexed.Insert(key);
  for (uint64_t key = 1; key <= 20000; key += 2) {
    indexed.index.Erase(SplitMix64(key), static_cast<uint32_t>(key - 1));
  }
  for (uint64_t key = 1; key <= 20000; ++key) {
    CHECK_EQ(indexed.Find(key), key % 2 ? Index::kNone : static_cast<uint32_t>(key - 1));
  }
  // Their entries are used again.
  const int64_t bytes = indexed.pool.bytes_in_use();
  for (uint64_t key = 1; key <= 20000; key += 2) {
    CHECK_TRUE(indexed.index.HasRoom());
    indexed.index.Insert(SplitMix64(key), static_cast<uint32_t>(key - 1));
  }
  for (uint64_t key = 1; key <= 20000; ++key) CHECK_EQ(indexed.Find(key), key - 1);
  CHECK_EQ(indexed.pool.bytes_in_use(), bytes);
}

TEST(HandleZeroWithTagZeroIsNotEmpty) {
  Indexed indexed;
  CHECK_TRUE(indexed.Rebuild());
  indexed.index.Insert(/*hash=*/0, /*handle=*/0);
  CHECK_EQ(indexed.index.Find(0, [](uint32_t) { return true; }), 0u);
}

TEST(ARebuiltIndexForgetsWhatIsNotVisited) {
  Indexed indexed;
  for (uint64_t key = 1; key <= 10000; ++key) indexed.Insert(key);
  CHECK_TRUE(indexed.index.IsWasteful(100));
  CHECK_TRUE(indexed.index.Rebuild(0, [](auto) {}));
  for (uint64_t key = 1; key <= 10000; ++key) CHECK_EQ(indexed.Find(key), Index::kNone);
  CHECK_LE(indexed.pool.bytes_in_use(), 64);
  CHECK_TRUE(indexed.index.HasRoom());
  CHECK_FALSE(indexed.index.IsWasteful(0));
}

// Who began to look before an index was replaced finds in the old one what was there.
TEST(AReplacedIndexStaysWhileItIsReadAndIsFreedThen) {
  Indexed indexed;
  for (uint64_t key = 1; key <= 10000; ++key) indexed.Insert(key);
  std::vector<char*> others;
  {
    const Readers::Reading reading(&indexed.readers);
    const BucketArray before = indexed.index.buckets();
    CHECK_TRUE(indexed.index.Rebuild(0, [](auto) {}));
    for (int i = 0; i < 500; ++i) {
      others.push_back(indexed.pool.AllocateArray(ChunkPool::kChunkBytes));
      std::fill_n(others.back(), ChunkPool::kChunkBytes, 'x');
    }
    for (uint32_t row = 0; row < 10000; ++row) {
      const auto same = [&](uint32_t candidate) { return candidate == row; };
      CHECK_EQ(before.Find(SplitMix64(row + 1), same), row);
    }
  }
  for (char* array : others) indexed.pool.FreeArray(array, ChunkPool::kChunkBytes);
  const uint32_t chunks = indexed.pool.num_chunks();
  for (int i = 0; i < 500; ++i) indexed.pool.AllocateArray(ChunkPool::kChunkBytes);
  CHECK_EQ(indexed.pool.num_chunks(), chunks);
}

TEST(ASearchEndsHoweverManyRowsCameAndWent) {
  for (const uint32_t rows : {20u, 60u, 500u}) {
    Indexed indexed;
    std::vector<uint64_t>& keys = indexed.keys;
    keys.resize(rows);
    int rebuilt = 0, looked_at = 0;
    const auto insert = [&](uint32_t row, uint64_t key) {
      if (!indexed.index.HasRoom()) {
        CHECK_TRUE(indexed.Rebuild());
        ++rebuilt;
        return;  // It put the row in, too.
      }
      indexed.index.Insert(SplitMix64(key), row);
    };
    for (uint32_t row = 0; row < rows; ++row) keys[row] = row + 1;
    CHECK_TRUE(indexed.Rebuild());
    rebuilt = 0;
    for (uint64_t key = rows + 1; key < 200000; ++key) {
      const uint32_t row = key % rows;
      indexed.index.Erase(SplitMix64(keys[row]), row);
      keys[row] = key;
      insert(row, key);
      CHECK_EQ(indexed.Find(key), row);
      CHECK_EQ(indexed.Find(key + 1), Index::kNone);
      indexed.index.Find(SplitMix64(key + 1), [&](uint32_t) { return ++looked_at, false; });
    }
    CHECK_LE(rebuilt, 2000);
    // One of 255 entries that are passed has the tag of another row.
    CHECK_LE(looked_at * 255 / 200000, 40);
  }
}

// The last row that there was room for may pass the last bucket that nobody had passed.
TEST(ASearchEndsWhereAllBucketsWerePassed) {
  Indexed indexed;
  CHECK_TRUE(indexed.index.Rebuild(12, [](auto) {}));
  CHECK_EQ(indexed.index.buckets().count(), 2u);
  const uint64_t first = 1, second = (uint64_t{1} << 31) + 1;  // with these hashes to either bucket
  const auto insert = [&](uint64_t hash, uint32_t row) {
    CHECK_TRUE(indexed.index.HasRoom());
    indexed.index.Insert(hash, row);
  };
  for (uint32_t row = 0; row <= 12; ++row) insert(first, row);
  for (uint32_t row = 0; row < 12; ++row) indexed.index.Erase(first, row);
  for (uint32_t row = 13; row <= 24; ++row) insert(second, row);
  CHECK_FALSE(indexed.index.HasRoom());
  for (const uint64_t hash : {first, second}) {
    CHECK_EQ(indexed.index.Find(hash, [](uint32_t) { return false; }), Index::kNone);
  }
  for (uint32_t row = 12; row <= 24; ++row) {
    const auto same = [&](uint32_t candidate) { return candidate == row; };
    CHECK_EQ(indexed.index.Find(row == 12 ? first : second, same), row);
  }
}

}  // namespace tfps
