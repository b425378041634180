#include "ops/core/arena.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "ops/core/chunk_pool.h"
#include "ops/tests/check.h"

namespace tfps {
namespace {

constexpr int64_t kChunk = ChunkPool::kChunkBytes;
constexpr RowLayout kLayout = {/*mf_dim=*/8, /*lr_state_floats=*/1, /*mf_state_floats=*/1};
const std::vector<SizeClass> kSizes = {SizeClass(kLayout.bytes(false)),
                                       SizeClass(kLayout.bytes(true))};

// A pool that nobody reads.
struct Pool : Readers, ChunkPool {
  explicit Pool(size_t most_bytes = kMostBytes) : Readers(1), ChunkPool(this, most_bytes) {}
};

}  // namespace

TEST(RowsHaveTheirSizes) {
  CHECK_EQ(kLayout.bytes(false), 48);
  CHECK_EQ(kLayout.bytes(true), 96);  // 84, in whole places
}

TEST(InitialMfIsTheDocumentedFunction) {
  float mf_w[3];
  InitMf(/*seed=*/7, /*key=*/123456789, /*range=*/0.5, mf_w, 3);
  for (int d = 0; d < 3; ++d) {
    const uint64_t bits = SplitMix64(SplitMix64(7 ^ 123456789) + d) >> 40;
    CHECK_EQ(mf_w[d], static_cast<float>(0.5 * (2 * (bits / 16777216.0) - 1)));
    CHECK_LE(std::fabs(mf_w[d]), 0.5f);
  }
  CHECK_NE(mf_w[0], mf_w[1]);
}

TEST(PoolHandsOutDisjointRunsAndReusesThem) {
  Pool pool;
  std::mt19937 random(1);
  std::map<char*, size_t> owned;  // and its bytes
  int64_t bytes = 0;
  for (int i = 0; i < 5000; ++i) {
    if (owned.size() < 100 || random() % 2) {
      const size_t size = random() % 8 ? 64 * (1 + random() % 40) : kChunk * (1 + random() % 9);
      char* run = pool.AllocateArray(size);
      CHECK_EQ(reinterpret_cast<uintptr_t>(run) % 64, 0u);
      const auto after = owned.lower_bound(run);
      if (after != owned.end()) CHECK_TRUE(run + size <= after->first);
      if (after != owned.begin()) {
        const auto before = std::prev(after);
        CHECK_TRUE(before->first + before->second <= run);
      }
      std::memset(run, i, size);
      owned[run] = size;
      bytes += size;
    } else {
      auto victim = std::next(owned.begin(), random() % owned.size());
      pool.FreeArray(victim->first, victim->second);
      bytes -= victim->second;
      owned.erase(victim);
    }
    CHECK_EQ(pool.bytes_in_use(), bytes);
  }
  for (const auto& [run, size] : owned) pool.FreeArray(run, size);
  CHECK_EQ(pool.bytes_in_use(), 0);
  const uint32_t chunks = pool.num_chunks();
  std::set<uint32_t> numbers;
  for (uint32_t i = 0; i < chunks / ChunkPool::kSlabChunks * (ChunkPool::kSlabChunks - 1); ++i) {
    CHECK_TRUE(numbers.insert(pool.Allocate()).second);
  }
  CHECK_EQ(pool.num_chunks(), chunks);  // No new slab while one has room.
}

TEST(PoolGivesArraysLargerThanASlab) {
  Pool pool;
  const size_t size = ChunkPool::kSlabBytes + 64;
  char* array = pool.AllocateArray(size);
  std::memset(array, 1, size);
  CHECK_GE(pool.bytes_in_use(), static_cast<int64_t>(size));
  pool.FreeArray(array, size);
  CHECK_EQ(pool.bytes_in_use(), 0);
}

TEST(AFreedChunkIsKeptWhileSomebodyReads) {
  Pool pool;
  std::set<uint32_t> freed;
  for (int i = 0; i < 200; ++i) freed.insert(pool.Allocate());
  {
    const Readers::Reading reading(&pool);
    for (uint32_t chunk : freed) pool.Free(chunk);
    for (int i = 0; i < 200; ++i) CHECK_EQ(freed.count(pool.Allocate()), 0u);
  }
  const uint32_t chunks = pool.num_chunks();
  for (int i = 0; i < 200; ++i) pool.Allocate();
  CHECK_EQ(pool.num_chunks(), chunks);
}

TEST(RowsKeepTheirContentsWhileOthersComeAndGo) {
  Pool pool;
  Arena arena(&kSizes, &pool, 0);
  std::mt19937 random(2);
  std::map<uint32_t, uint64_t> rows;  // handle to key
  for (uint64_t key = 1; key <= 20000; ++key) {
    const bool admitted = random() % 2;
    const uint32_t handle = arena.Allocate(key, admitted);
    CHECK_EQ(rows.count(handle), 0u);
    rows[handle] = key;
    const int floats = kLayout.floats(admitted);
    for (int i = 0; i < floats; ++i) Floats(arena.At(handle))[i] = static_cast<float>(key);
    arena.At(handle)->flags = admitted;
    if (random() % 3 == 0) {
      const auto victim = rows.lower_bound(random() % (1u << 20));
      if (victim == rows.end()) continue;
      arena.Free(victim->first);
      rows.erase(victim);
    }
  }
  std::map<uint32_t, uint64_t> visited;
  arena.ForEach([&](uint32_t handle, const RowHead* row) {
    visited[handle] = row->key;
    const int floats = kLayout.floats(row->flags);
    for (int i = 0; i < floats; ++i) CHECK_EQ(Floats(row)[i], static_cast<float>(row->key));
  });
  CHECK_TRUE(visited == rows);
}

TEST(RowsOfManySizesKeepTheirContents) {
  Pool pool;
  const std::vector<SizeClass> sizes = {SizeClass(48), SizeClass(2000), SizeClass(96),
                                        SizeClass(16336), SizeClass(64)};
  Arena arena(&sizes, &pool, 0);
  const auto bytes_of = [&](int number) { return static_cast<int>(sizes[number].bytes); };
  std::mt19937 random(3);
  std::map<uint32_t, int> size_class_of;  // by handle
  for (uint64_t key = 1; key <= 20000; ++key) {
    const int size_class = random() % 8 ? random() % 5 / 2 * 2 : random() % 4;
    const uint32_t handle = arena.Allocate(key, size_class);
    CHECK_TRUE(size_class_of.emplace(handle, size_class).second);
    CHECK_EQ(arena.RowBytes(handle), bytes_of(size_class));
    std::memset(arena.At(handle) + 1, static_cast<int>(key),
                bytes_of(size_class) - sizeof(RowHead));
    const auto victim = size_class_of.lower_bound(random() % (1u << 22));
    if (random() % 3 || victim == size_class_of.end()) continue;
    arena.Free(victim->first);
    size_class_of.erase(victim);
  }
  size_t visits = 0;
  arena.ForEach([&](uint32_t handle, const RowHead* row) {
    ++visits;
    CHECK_EQ(size_class_of.count(handle), 1u);
    const int size = bytes_of(size_class_of[handle]) - static_cast<int>(sizeof(RowHead));
    const auto* bytes = reinterpret_cast<const unsigned char*>(row + 1);
    CHECK_EQ(std::count(bytes, bytes + size, static_cast<unsigned char>(row->key)), size);
    arena.Free(handle);
  });
  CHECK_EQ(visits, size_class_of.size());
  CHECK_EQ(pool.bytes_in_use(), 0);
}

TEST(FreedRowsAreUsedAgain) {
  Pool pool;
  Arena arena(&kSizes, &pool, 0);
  std::vector<uint32_t> handles;
  for (uint64_t key = 1; key <= 1000; ++key) handles.push_back(arena.Allocate(key, false));
  const int64_t bytes = pool.bytes_in_use();
  CHECK_EQ(bytes, 3 * kChunk);  // 341 rows of 48 bytes in each
  for (size_t i = 0; i < handles.size(); i += 2) arena.Free(handles[i]);
  for (uint64_t key = 1; key <= 500; ++key) CHECK_NE(arena.Allocate(key, false), Arena::kNone);
  CHECK_EQ(pool.bytes_in_use(), bytes);
}

TEST(ForEachMayFreeEveryRowAndEmptyChunksGoBack) {
  Pool pool;
  Arena arena(&kSizes, &pool, 0);
  for (int round = 0; round < 3; ++round) {
    for (uint64_t key = 1; key <= 5000; ++key) arena.Allocate(key, key % 2);
    int visits = 0;
    arena.ForEach([&](uint32_t handle, RowHead*) {
      ++visits;
      arena.Free(handle);
    });
    CHECK_EQ(visits, 5000);
    CHECK_EQ(pool.bytes_in_use(), 0);
  }
}

TEST(ChunksOfAnEndedArenaGoBack) {
  Pool pool;
  {
    Arena arena(&kSizes, &pool, 0);
    for (uint64_t key = 1; key <= 5000; ++key) arena.Allocate(key, false);
  }
  CHECK_EQ(pool.bytes_in_use(), 0);
}

TEST(AFullPoolSaysSo) {
  Pool pool(2 * ChunkPool::kSlabBytes);
  const std::vector<SizeClass> sizes = {SizeClass(48), SizeClass(16336)};
  Arena arena(&sizes, &pool, 0);
  uint32_t last = 0;
  const uint64_t rows = 2 * (ChunkPool::kSlabChunks - 1);
  for (uint64_t key = 1; key <= rows; ++key) {
    last = arena.Allocate(key, true);
    CHECK_NE(last, Arena::kNone);
  }
  CHECK_EQ(arena.Allocate(1, true), Arena::kNone);
  CHECK_EQ(arena.Allocate(1, false), Arena::kNone);
  CHECK_EQ(arena.At(last)->key, rows);
  arena.Free(last);
  CHECK_EQ(arena.Allocate(1, true), last);
}

TEST(RoomIsMadeReadyAheadInLargePoolsOnly) {
  Pool pool;
  const auto slabs = [&] { return pool.num_chunks() / ChunkPool::kSlabChunks; };
  const auto fill_one_more = [&] {
    const uint32_t before = slabs();
    while (slabs() == before) CHECK_NE(pool.Allocate(), ChunkPool::kNone);
  };
  fill_one_more();
  pool.PrepareAhead();
  CHECK_EQ(slabs(), 1u);
  while (slabs() < 65) fill_one_more();
  pool.PrepareAhead();
  CHECK_EQ(slabs(), 66u);
  pool.PrepareAhead();
  CHECK_EQ(slabs(), 66u);  // As much as is to be ready is.
}

TEST(WhoMakesReadyAndWhoAllocatesDoNotMeet) {
  Pool pool;
  std::set<uint32_t> chunks[2];
  const auto work = [&](int who) {
    for (int i = 0; i < 6000; ++i) {
      chunks[who].insert(pool.Allocate());
      pool.PrepareAhead();
    }
  };
  std::thread other(work, 1);
  work(0);
  other.join();
  chunks[0].insert(chunks[1].begin(), chunks[1].end());
  CHECK_EQ(chunks[0].size(), 12000u);
}

}  // namespace tfps
