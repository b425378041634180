// Memory in chunks of 16 KiB, for the rows and the indexes of all shards of a table.
//
// All chunks lie in one range of addresses that is reserved when the pool is made, so that 32 bits
// name a place of 16 bytes in it. Slabs of 2 MiB are taken from the system one by one, from
// the beginning of the range, and are kept until the pool is destroyed: freed memory is used again
// and is never unmapped under a reader. The first chunk of a slab holds what the owners of the
// other chunks note about them; the pool does not look at these notes.
//
// Invariant: a chunk is free (its bit in its slab is set), owned by exactly one caller, or freed
// but perhaps still read. Its contents are whatever the last owner left. Thread-safe.
#ifndef OPS_CORE_CHUNK_POOL_H_
#define OPS_CORE_CHUNK_POOL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "ops/core/readers.h"

namespace tfps {

class ChunkPool {
 public:
  static constexpr size_t kChunkBytes = size_t{16} << 10;
  static constexpr size_t kSlabBytes = size_t{2} << 20;
  static constexpr int kSlabChunks = kSlabBytes / kChunkBytes;
  static constexpr size_t kPlaceBytes = 16;
  static constexpr size_t kMostBytes = (size_t{1} << 32) * kPlaceBytes;  // 64 GiB
  static constexpr size_t kNotesBytes = 128;
  static constexpr uint32_t kNone = UINT32_MAX;

  // Freed memory is used again once no reader of `readers`, which must outlive the pool, can see
  // it. Reserves `most_bytes` of addresses, or as many as the system grants.
  explicit ChunkPool(Readers* readers, size_t most_bytes = kMostBytes);
  ~ChunkPool();
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;

  // Returns the number of a chunk for rows, or kNone if there is no memory left.
  uint32_t Allocate();
  void Free(uint32_t chunk);

  char* base() const { return base_; }
  char* At(uint32_t chunk) const { return base_ + chunk * kChunkBytes; }
  // Memory for what the owner of a chunk notes about it: kNotesBytes, aligned to as many. It is all
  // zeros before the first owner, and keeps what the last one left. Anyone may read it.
  char* NotesOf(uint32_t chunk) const {
    return At(chunk / kSlabChunks * kSlabChunks) + chunk % kSlabChunks * kNotesBytes;
  }
  // The number of chunks, in use or not. The memory of every chunk below it may be read.
  uint32_t num_chunks() const { return num_chunks_.load(std::memory_order_acquire); }

  // Returns an array of a multiple of 64 bytes, aligned to 64, or nullptr. Large arrays are whole
  // chunks; those larger than a slab come from the system and go back to it.
  char* AllocateArray(size_t bytes);
  void FreeArray(char* array, size_t bytes);

  // Has the operating system prepare the pages that will be handed out next, while others use the
  // pool. Called by a thread that holds no lock, it keeps others from waiting for pages in the
  // middle of a change.
  void PrepareAhead();

  // Bytes that callers own.
  int64_t bytes_in_use() const;

 private:
  struct Slab {
    uint64_t free_chunks[kSlabChunks / 64];  // one bit per chunk

    bool AnyFree() const { return free_chunks[0] | free_chunks[1]; }
    int FindRun(int count) const;  // first chunk of `count` free ones, or -1
    void Mark(int first, int count, bool free);
  };
  static_assert(kSlabChunks == 128, "AnyFree looks at two words");
  static_assert(kSlabChunks * kNotesBytes <= kChunkBytes, "one chunk holds the notes of a slab");

  struct Freed {
    uint64_t stamp;
    char* memory;
    size_t bytes;
  };

  static constexpr int kMostRun = kSlabChunks - 1;
  static constexpr size_t kSmallArray = kChunkBytes;

  // Next to this many slabs, the two that may be prepared ahead are little.
  static constexpr size_t kLeastSlabs = 64;
  static constexpr int kAheadChunks = kSlabChunks;

  char* SlabAt(size_t number) const { return base_ + number * kSlabBytes; }
  bool OpenSlab(size_t number);
  bool AddSlab();
  char* AllocateRun(int count);
  void FreeLater(char* memory, size_t bytes);
  void FreeWhatNobodyReads();

  Readers* const readers_;
  char* reserved_ = nullptr;
  size_t reserved_bytes_ = 0;
  char* base_ = nullptr;
  size_t most_slabs_ = 0;
  std::atomic<uint32_t> num_chunks_{0};
  std::atomic<int64_t> free_chunks_{0};
  std::mutex preparing_;  // before mutex_

  mutable std::mutex mutex_;
  std::vector<Slab> slabs_;
  size_t first_open_ = 0;  // no slab before this one has a free chunk
  std::deque<Freed> freed_;
  int64_t bytes_in_use_ = 0;
};

}  // namespace tfps

#endif  // OPS_CORE_CHUNK_POOL_H_
