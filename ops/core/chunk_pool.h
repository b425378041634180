// Memory in chunks of 16 KiB, for the rows and the indexes of all shards of a table.
//
// Invariant: a chunk is either free (its bit in its slab is set) or owned by exactly one caller.
// Slabs of 2 MiB are taken from the system one by one and kept until the pool ends, so that freed
// memory is used again. Chunks are aligned to 16 KiB. Their contents are whatever the last owner
// left. Thread-safe.
#ifndef OPS_CORE_CHUNK_POOL_H_
#define OPS_CORE_CHUNK_POOL_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace tfps {

class ChunkPool {
 public:
  static constexpr size_t kChunkBytes = size_t{16} << 10;
  static constexpr size_t kSlabBytes = size_t{2} << 20;
  static constexpr int kSlabChunks = kSlabBytes / kChunkBytes;

  ChunkPool() = default;
  ~ChunkPool();
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;

  // `count` adjacent chunks, or nullptr if the system has no memory left. More than a slab's worth
  // of chunks come from the system directly and go back to it.
  char* Allocate(int count);
  void Free(char* chunks, int count);

  // Bytes of the chunks that callers own.
  int64_t bytes_in_use() const;

 private:
  struct Slab {
    char* base;
    uint64_t free_chunks[kSlabChunks / 64];  // one bit per chunk

    bool AnyFree() const { return free_chunks[0] | free_chunks[1]; }
    int FindRun(int count) const;  // first chunk of `count` free ones, or -1
    void Mark(int first, int count, bool free);
  };
  static_assert(kSlabChunks == 128, "AnyFree looks at two words");

  bool AddSlab();

  mutable std::mutex mutex_;
  std::vector<Slab> slabs_;
  std::unordered_map<char*, size_t> slab_of_base_;
  size_t first_open_ = 0;  // no slab before this one has a free chunk
  int64_t chunks_in_use_ = 0;
};

}  // namespace tfps

#endif  // OPS_CORE_CHUNK_POOL_H_
