#include "ops/core/arena.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "ops/core/chunk_pool.h"
#include "ops/tests/check.h"

namespace tfps {
namespace {

constexpr int64_t kChunk = ChunkPool::kChunkBytes;
constexpr RowLayout kLayout = {/*mf_dim=*/8, /*lr_state_floats=*/1, /*mf_state_floats=*/1};
const std::vector<SizeClass> kSizes = {SizeClass(kLayout.bytes(false)),
                                       SizeClass(kLayout.bytes(true))};

uintptr_t SlabOf(const char* chunk) {
  return reinterpret_cast<uintptr_t>(chunk) / ChunkPool::kSlabBytes;
}

}  // namespace

TEST(RowsHaveTheirSizes) {
  CHECK_EQ(kLayout.bytes(false), 48);
  CHECK_EQ(kLayout.bytes(true), 88);  // 84, in whole units
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
  ChunkPool pool;
  std::mt19937 random(1);
  std::map<char*, int> owned;
  std::set<uintptr_t> slabs;  // ever seen
  int64_t chunks = 0, most = 0;
  for (int i = 0; i < 5000; ++i) {
    if (owned.size() < 100 || random() % 2) {
      const int count = random() % 8 ? 1 + random() % 9 : 1;
      char* run = pool.Allocate(count);
      CHECK_EQ(reinterpret_cast<uintptr_t>(run) % kChunk, 0u);
      const auto after = owned.lower_bound(run);
      if (after != owned.end()) CHECK_TRUE(run + count * kChunk <= after->first);
      if (after != owned.begin()) {
        const auto before = std::prev(after);
        CHECK_TRUE(before->first + before->second * kChunk <= run);
      }
      std::memset(run, i, count * kChunk);
      owned[run] = count;
      slabs.insert(SlabOf(run));
      chunks += count;
    } else {
      auto victim = std::next(owned.begin(), random() % owned.size());
      pool.Free(victim->first, victim->second);
      chunks -= victim->second;
      owned.erase(victim);
    }
    most = std::max(most, chunks);
    CHECK_EQ(pool.bytes_in_use(), chunks * kChunk);
  }
  for (const auto& [run, count] : owned) pool.Free(run, count);
  CHECK_EQ(pool.bytes_in_use(), 0);
  for (size_t i = 0; i < slabs.size() * ChunkPool::kSlabChunks; ++i) {
    CHECK_EQ(slabs.count(SlabOf(pool.Allocate(1))), 1u);  // No new slab while one has room.
  }
}

TEST(PoolGivesRunsLargerThanASlab) {
  ChunkPool pool;
  char* run = pool.Allocate(ChunkPool::kSlabChunks + 1);
  std::memset(run, 1, (ChunkPool::kSlabChunks + 1) * kChunk);
  CHECK_EQ(pool.bytes_in_use(), (ChunkPool::kSlabChunks + 1) * kChunk);
  pool.Free(run, ChunkPool::kSlabChunks + 1);
  CHECK_EQ(pool.bytes_in_use(), 0);
}

TEST(RowsKeepTheirContentsWhileOthersComeAndGo) {
  ChunkPool pool;
  Arena arena(&kSizes, &pool);
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
  ChunkPool pool;
  const std::vector<SizeClass> sizes = {SizeClass(48), SizeClass(2000), SizeClass(88),
                                        SizeClass(16384), SizeClass(56)};
  Arena arena(&sizes, &pool);
  const auto bytes_of = [&](int number) { return static_cast<int>(sizes[number].units) * 8; };
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
  ChunkPool pool;
  Arena arena(&kSizes, &pool);
  std::vector<uint32_t> handles;
  for (uint64_t key = 1; key <= 1000; ++key) handles.push_back(arena.Allocate(key, false));
  const int64_t bytes = pool.bytes_in_use();
  CHECK_EQ(bytes, 3 * kChunk);  // 341 rows of 48 bytes in each
  for (size_t i = 0; i < handles.size(); i += 2) arena.Free(handles[i]);
  for (uint64_t key = 1; key <= 500; ++key) CHECK_NE(arena.Allocate(key, false), Arena::kNone);
  CHECK_EQ(pool.bytes_in_use(), bytes);
}

TEST(ForEachMayFreeEveryRowAndEmptyChunksGoBack) {
  ChunkPool pool;
  Arena arena(&kSizes, &pool);
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
  ChunkPool pool;
  {
    Arena arena(&kSizes, &pool);
    for (uint64_t key = 1; key <= 5000; ++key) arena.Allocate(key, false);
  }
  CHECK_EQ(pool.bytes_in_use(), 0);
}

TEST(AFullArenaSaysSo) {
  ChunkPool pool;
  const std::vector<SizeClass> sizes = {SizeClass(48), SizeClass(ChunkPool::kChunkBytes)};
  Arena arena(&sizes, &pool);
  uint32_t last = 0;
  for (uint64_t key = 1; key <= Arena::kMaxChunks; ++key) {
    last = arena.Allocate(key, true);
    CHECK_NE(last, Arena::kNone);
  }
  CHECK_EQ(arena.Allocate(1, true), Arena::kNone);
  CHECK_EQ(arena.Allocate(1, false), Arena::kNone);
  CHECK_EQ(arena.At(last)->key, Arena::kMaxChunks);
  arena.Free(last);
  CHECK_EQ(arena.Allocate(1, true), last);
}

}  // namespace tfps
