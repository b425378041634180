#include "ops/core/chunk_pool.h"

#include <sys/mman.h>

#include <algorithm>

namespace tfps {
namespace {

// A table's first slabs are left to small pages: of a table with few rows per shard, only the
// touched pages are resident then.
constexpr size_t kSmallPageSlabs = 16;

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// `bytes` of zeroed memory, aligned to a slab, or nullptr.
char* MapAligned(size_t bytes, bool huge_pages) {
  const size_t padded = bytes + ChunkPool::kSlabBytes;
  void* mapped = mmap(nullptr, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(mapped);
  const uintptr_t aligned = RoundUp(begin, ChunkPool::kSlabBytes);
  char* base = static_cast<char*>(mapped) + (aligned - begin);
  if (aligned > begin) munmap(mapped, aligned - begin);
  if (begin + padded > aligned + bytes) munmap(base + bytes, begin + padded - aligned - bytes);
  // Only advice: failure is harmless.
  madvise(base, bytes, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return base;
}

size_t DirectBytes(int count) {
  return RoundUp(count * ChunkPool::kChunkBytes, ChunkPool::kSlabBytes);
}

}  // namespace

int ChunkPool::Slab::FindRun(int count) const {
  if (count == 1) {
    if (free_chunks[0]) return __builtin_ctzll(free_chunks[0]);
    if (free_chunks[1]) return 64 + __builtin_ctzll(free_chunks[1]);
    return -1;
  }
  const int free = __builtin_popcountll(free_chunks[0]) + __builtin_popcountll(free_chunks[1]);
  if (free < count) return -1;
  int run = 0;
  for (int chunk = 0; chunk < kSlabChunks; ++chunk) {
    run = (free_chunks[chunk / 64] >> (chunk % 64)) & 1 ? run + 1 : 0;
    if (run == count) return chunk - count + 1;
  }
  return -1;
}

void ChunkPool::Slab::Mark(int first, int count, bool free) {
  for (int chunk = first; chunk < first + count; ++chunk) {
    const uint64_t bit = uint64_t{1} << (chunk % 64);
    if (free) {
      free_chunks[chunk / 64] |= bit;
    } else {
      free_chunks[chunk / 64] &= ~bit;
    }
  }
}

ChunkPool::~ChunkPool() {
  for (const Slab& slab : slabs_) munmap(slab.base, kSlabBytes);
}

bool ChunkPool::AddSlab() {
  char* base = MapAligned(kSlabBytes, slabs_.size() >= kSmallPageSlabs);
  if (base == nullptr) return false;
  slab_of_base_[base] = slabs_.size();
  slabs_.push_back({base, {~uint64_t{0}, ~uint64_t{0}}});
  return true;
}

char* ChunkPool::Allocate(int count) {
  std::lock_guard<std::mutex> lock(mutex_);
  char* chunks = nullptr;
  if (count > kSlabChunks) {
    chunks = MapAligned(DirectBytes(count), /*huge_pages=*/true);
    if (chunks == nullptr) return nullptr;
  } else {
    while (first_open_ < slabs_.size() && !slabs_[first_open_].AnyFree()) ++first_open_;
    int first = -1;
    size_t at = first_open_;
    for (; at < slabs_.size(); ++at) {
      first = slabs_[at].FindRun(count);
      if (first >= 0) break;
    }
    if (first < 0) {
      if (!AddSlab()) return nullptr;
      at = slabs_.size() - 1;
      first = 0;
    }
    slabs_[at].Mark(first, count, /*free=*/false);
    chunks = slabs_[at].base + first * kChunkBytes;
  }
  chunks_in_use_ += count;
  return chunks;
}

void ChunkPool::Free(char* chunks, int count) {
  std::lock_guard<std::mutex> lock(mutex_);
  chunks_in_use_ -= count;
  if (count > kSlabChunks) {
    munmap(chunks, DirectBytes(count));
    return;
  }
  const size_t offset = reinterpret_cast<uintptr_t>(chunks) % kSlabBytes;
  const size_t at = slab_of_base_.at(chunks - offset);
  slabs_[at].Mark(static_cast<int>(offset / kChunkBytes), count, /*free=*/true);
  first_open_ = std::min(first_open_, at);
}

int64_t ChunkPool::bytes_in_use() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return chunks_in_use_ * static_cast<int64_t>(kChunkBytes);
}

}  // namespace tfps
