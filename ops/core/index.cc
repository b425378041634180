#include "ops/core/index.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace tfps {
namespace {

constexpr uint32_t kEntriesPerChunk = ChunkPool::kChunkBytes / sizeof(uint32_t);

// Entries for `rows` rows to fill at most 4/5 * 2/3 of them: powers of two below a chunk, whole
// chunks above.
uint32_t CapacityFor(uint32_t rows) {
  const uint32_t wanted = static_cast<uint32_t>(uint64_t{rows} * 15 / 8);
  if (wanted > kEntriesPerChunk / 2) {
    return (wanted + kEntriesPerChunk - 1) / kEntriesPerChunk * kEntriesPerChunk;
  }
  uint32_t capacity = 16;
  while (capacity < wanted) capacity *= 2;
  return capacity;
}

}  // namespace

void Index::Release() {
  uint32_t* entries = entries_.load(std::memory_order_relaxed);
  if (entries == nullptr) return;
  const int chunks = Chunks(capacity_.load(std::memory_order_relaxed));
  if (chunks > 0) {
    pool_->Free(reinterpret_cast<char*>(entries), chunks);
  } else {
    std::free(entries);
  }
}

bool Index::Reset(uint32_t rows) {
  const uint32_t capacity = CapacityFor(rows);
  uint32_t* entries = entries_.load(std::memory_order_relaxed);
  if (entries == nullptr || capacity != capacity_.load(std::memory_order_relaxed)) {
    const int chunks = Chunks(capacity);
    entries = chunks > 0 ? reinterpret_cast<uint32_t*>(pool_->Allocate(chunks))
                         : static_cast<uint32_t*>(std::malloc(capacity * sizeof(uint32_t)));
    if (entries == nullptr) return false;
    Release();
    entries_.store(entries, std::memory_order_relaxed);
    capacity_.store(capacity, std::memory_order_relaxed);
  }
  max_size_ = static_cast<uint32_t>(uint64_t{capacity} * 4 / 5);
  Clear();
  return true;
}

void Index::Clear() {
  std::memset(entries_.load(std::memory_order_relaxed), 0,
              capacity_.load(std::memory_order_relaxed) * sizeof(uint32_t));
  size_ = 0;
}

int64_t Index::bytes() const {
  return int64_t{capacity_.load(std::memory_order_relaxed)} * sizeof(uint32_t);
}

int64_t Index::small_bytes() const {
  return Chunks(capacity_.load(std::memory_order_relaxed)) > 0 ? 0 : bytes();
}

}  // namespace tfps
