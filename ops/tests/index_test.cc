#include "ops/core/index.h"

#include <vector>

#include "ops/core/chunk_pool.h"
#include "ops/tests/check.h"

namespace tfps {
namespace {

// A row is its position in `keys`.
struct Indexed {
  void Insert(uint64_t key) {
    const uint64_t hash = SplitMix64(key);
    if (!index.HasRoom()) {
      CHECK_TRUE(index.Reset(static_cast<uint32_t>(keys.size()) + 1));
      for (uint32_t row = 0; row < keys.size(); ++row) {
        index.InsertNew(SplitMix64(keys[row]), row);
      }
    }
    uint32_t* entry = Find(key);
    CHECK_EQ(*entry, 0u);
    index.Insert(entry, hash, static_cast<uint32_t>(keys.size()));
    keys.push_back(key);
  }

  uint32_t* Find(uint64_t key) {
    return index.Find(SplitMix64(key), [&](uint32_t row) { return keys[row] == key; });
  }

  ChunkPool pool;
  Index index{&pool};
  std::vector<uint64_t> keys;
};

}  // namespace

TEST(EveryInsertedRowIsFoundAtAnySize) {
  Indexed indexed;
  for (uint64_t key = 1; key <= 300000; ++key) {
    indexed.Insert(key);
    const uint64_t old = 1 + SplitMix64(key) % key;
    CHECK_EQ(Index::HandleOf(*indexed.Find(old)), old - 1);
    CHECK_NE(*indexed.Find(old), 0u);
    CHECK_EQ(*indexed.Find(key + 1), 0u);
  }
}

TEST(AtMostTenBytesPerRow) {
  Indexed indexed;
  for (uint64_t key = 1; key <= 300000; ++key) {
    indexed.Insert(key);
    const int64_t bytes = indexed.pool.bytes_in_use() + indexed.index.small_bytes();
    if (key > 12000) CHECK_LE(bytes, static_cast<int64_t>(10 * key));
  }
}

TEST(EqualHashesOfDifferentRowsAreTold) {
  ChunkPool pool;
  Index index(&pool);
  for (uint32_t row = 0; row < 10; ++row) index.InsertNew(/*hash=*/77, row);
  for (uint32_t row = 0; row < 10; ++row) {
    const uint32_t* entry = index.Find(77, [&](uint32_t candidate) { return candidate == row; });
    CHECK_EQ(Index::HandleOf(*entry), row);
  }
  CHECK_EQ(*index.Find(77, [](uint32_t) { return false; }), 0u);
}

TEST(AHandleCanBeReplacedWithoutMovingItsEntry) {
  Indexed indexed;
  for (uint64_t key = 1; key <= 10; ++key) indexed.Insert(key);
  indexed.keys.resize(1 << 24);
  indexed.keys[(1 << 24) - 1] = 5;
  Index::SetHandle(indexed.Find(5), (1 << 24) - 1);
  indexed.keys[4] = 0;
  CHECK_EQ(Index::HandleOf(*indexed.Find(5)), (1u << 24) - 1);
}

TEST(HandleZeroWithTagZeroIsNotEmpty) {
  ChunkPool pool;
  Index index(&pool);
  index.InsertNew(/*hash=*/0, /*handle=*/0);
  CHECK_NE(*index.Find(0, [](uint32_t) { return true; }), 0u);
}

TEST(ClearAndResetForgetEverything) {
  Indexed indexed;
  for (uint64_t key = 1; key <= 10000; ++key) indexed.Insert(key);
  indexed.index.Clear();
  for (uint64_t key = 1; key <= 10000; ++key) CHECK_EQ(*indexed.Find(key), 0u);
  CHECK_TRUE(indexed.index.Reset(0));
  CHECK_EQ(indexed.pool.bytes_in_use(), 0);
  CHECK_TRUE(indexed.index.HasRoom());
}

}  // namespace tfps
