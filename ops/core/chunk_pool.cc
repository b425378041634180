#include "ops/core/chunk_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // since Linux 6.1
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // since Linux 5.14
#endif

namespace tfps {
namespace {

// The first slabs of a table use small pages until there are more slabs, so that a table with few
// rows per shard keeps only the pages that it has touched in memory.
constexpr size_t kSmallPageSlabs = 16;

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

void* Map(size_t bytes, int protection, int flags) {
  void* mapped = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  return mapped == MAP_FAILED ? nullptr : mapped;
}

size_t ArrayBytes(size_t bytes) { return RoundUp(bytes, ChunkPool::kChunkBytes); }

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

ChunkPool::ChunkPool(Readers* readers, size_t most_bytes) : readers_(readers) {
  for (size_t bytes = std::min(most_bytes, kMostBytes); bytes >= kSlabBytes; bytes /= 2) {
    reserved_bytes_ = bytes + kSlabBytes;
    reserved_ = static_cast<char*>(Map(reserved_bytes_, PROT_NONE, MAP_NORESERVE));
    if (reserved_ == nullptr) continue;
    base_ = reinterpret_cast<char*>(RoundUp(reinterpret_cast<uintptr_t>(reserved_), kSlabBytes));
    // The number of the last place means none.
    most_slabs_ = bytes / kSlabBytes - (bytes == kMostBytes);
    return;
  }
}

ChunkPool::~ChunkPool() {
  for (const Freed& freed : freed_) {
    if (freed.bytes < kSmallArray) std::free(freed.memory);
    if (freed.bytes > kMostRun * kChunkBytes) munmap(freed.memory, freed.bytes);
  }
  if (reserved_ != nullptr) munmap(reserved_, reserved_bytes_);
}

bool ChunkPool::OpenSlab(size_t number) {
  if (number == most_slabs_) return false;
  char* const slab = SlabAt(number);
  if (mprotect(slab, kSlabBytes, PROT_READ | PROT_WRITE) != 0) return false;
  // This and the calls below are only advice: failure is harmless.
  madvise(slab, kSlabBytes, number >= kSmallPageSlabs ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return true;
}

void ChunkPool::PrepareAhead() {
  if (free_chunks_.load(std::memory_order_relaxed) >= kAheadChunks) return;
  std::unique_lock<std::mutex> preparing(preparing_, std::try_to_lock);
  if (!preparing.owns_lock()) return;
  std::unique_lock<std::mutex> lock(mutex_);
  const size_t next = slabs_.size();
  lock.unlock();
  if (next < kLeastSlabs || !OpenSlab(next)) return;
  madvise(SlabAt(next), kSlabBytes, MADV_POPULATE_WRITE);
  lock.lock();
  // Unless a thread that could not wait has taken it.
  if (slabs_.size() == next) AddSlab();
}

bool ChunkPool::AddSlab() {
  if (!OpenSlab(slabs_.size())) return false;
  if (slabs_.size() == kSmallPageSlabs) {
    madvise(base_, kSmallPageSlabs * kSlabBytes, MADV_HUGEPAGE);
    madvise(base_, kSmallPageSlabs * kSlabBytes, MADV_COLLAPSE);
  }
  slabs_.push_back({{~uint64_t{1}, ~uint64_t{0}}});
  free_chunks_ += kSlabChunks - 1;
  num_chunks_.store(static_cast<uint32_t>(slabs_.size() * kSlabChunks), std::memory_order_release);
  return true;
}

char* ChunkPool::AllocateRun(int count) {
  for (bool again = true;; again = false) {
    while (first_open_ < slabs_.size() && !slabs_[first_open_].AnyFree()) ++first_open_;
    for (size_t at = first_open_; at < slabs_.size(); ++at) {
      const int first = slabs_[at].FindRun(count);
      if (first < 0) continue;
      slabs_[at].Mark(first, count, /*free=*/false);
      free_chunks_ -= count;
      return SlabAt(at) + first * kChunkBytes;
    }
    if (again && !freed_.empty()) {
      FreeWhatNobodyReads();
    } else if (!AddSlab()) {
      return nullptr;
    }
  }
}

uint32_t ChunkPool::Allocate() {
  std::lock_guard<std::mutex> lock(mutex_);
  const char* chunk = AllocateRun(1);
  if (chunk == nullptr) return kNone;
  bytes_in_use_ += kChunkBytes;
  return static_cast<uint32_t>((chunk - base_) / kChunkBytes);
}

void ChunkPool::Free(uint32_t chunk) {
  std::lock_guard<std::mutex> lock(mutex_);
  FreeLater(At(chunk), kChunkBytes);
}

char* ChunkPool::AllocateArray(size_t bytes) {
  char* array;
  std::lock_guard<std::mutex> lock(mutex_);
  if (bytes < kSmallArray) {
    array = static_cast<char*>(std::aligned_alloc(64, bytes));
  } else {
    bytes = ArrayBytes(bytes);
    array = bytes <= kMostRun * kChunkBytes
                ? AllocateRun(static_cast<int>(bytes / kChunkBytes))
                : static_cast<char*>(Map(bytes, PROT_READ | PROT_WRITE, 0));
    if (array != nullptr && bytes > kMostRun * kChunkBytes) madvise(array, bytes, MADV_HUGEPAGE);
  }
  if (array != nullptr) bytes_in_use_ += bytes;
  return array;
}

void ChunkPool::FreeArray(char* array, size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  FreeLater(array, bytes < kSmallArray ? bytes : ArrayBytes(bytes));
}

void ChunkPool::FreeLater(char* memory, size_t bytes) {
  bytes_in_use_ -= bytes;
  freed_.push_back({readers_->Stamp(), memory, bytes});
  FreeWhatNobodyReads();
}

void ChunkPool::FreeWhatNobodyReads() {
  const uint64_t oldest = readers_->OldestEpoch();
  while (!freed_.empty() && freed_.front().stamp < oldest) {
    const Freed& freed = freed_.front();
    if (freed.bytes < kSmallArray) {
      std::free(freed.memory);
    } else if (freed.bytes > kMostRun * kChunkBytes) {
      munmap(freed.memory, freed.bytes);
    } else {
      const size_t chunk = (freed.memory - base_) / kChunkBytes;
      free_chunks_ += freed.bytes / kChunkBytes;
      slabs_[chunk / kSlabChunks].Mark(static_cast<int>(chunk % kSlabChunks),
                                       static_cast<int>(freed.bytes / kChunkBytes), /*free=*/true);
      first_open_ = std::min(first_open_, chunk / kSlabChunks);
    }
    freed_.pop_front();
  }
}

int64_t ChunkPool::bytes_in_use() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return bytes_in_use_;
}

}  // namespace tfps
