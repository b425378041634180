// Where the rows of one shard are: an open-addressing array of 32-bit entries, 8 bits of tag and 24
// of row handle.
//
// Invariant: at most 4/5 of the entries are taken, so every probe ends. An entry of 0 is empty;
// tags start at 1. Rows are only added: whoever frees rows calls Reset and inserts what is left.
// The shard's lock guards everything but Prefetch, which may run at any time.
#ifndef OPS_CORE_INDEX_H_
#define OPS_CORE_INDEX_H_

#include <atomic>
#include <cstdint>

#include "ops/core/chunk_pool.h"
#include "ops/core/hash.h"

namespace tfps {

class Index {
 public:
  explicit Index(ChunkPool* pool) : pool_(pool) { Reset(0); }
  ~Index() { Release(); }
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  // Whether one more row can be inserted.
  bool HasRoom() const { return size_ < max_size_; }

  // Empties the index and gives it room for `rows` rows and half as many again. False, and nothing
  // changed, if there is no memory left.
  bool Reset(uint32_t rows);

  // Empties the index and keeps its size.
  void Clear();

  // The entry of the row with this hash for which matches(handle) is true, or the empty entry that
  // ends the search.
  template <typename Matches>
  uint32_t* Find(uint64_t hash, Matches matches) const {
    const uint32_t capacity = capacity_.load(std::memory_order_relaxed);
    uint32_t* entries = entries_.load(std::memory_order_relaxed);
    const uint32_t tag = Tag(hash);
    uint32_t at = ScaleToRange(static_cast<uint32_t>(hash), capacity);
    while (true) {
      const uint32_t entry = entries[at];
      if (entry == 0 || (entry >> 24 == tag && matches(entry & kHandleMask))) return &entries[at];
      if (++at == capacity) at = 0;
    }
  }

  // Puts a row at the empty entry that Find returned.
  void Insert(uint32_t* entry, uint64_t hash, uint32_t handle) {
    *entry = Tag(hash) << 24 | handle;
    ++size_;
  }

  // Puts a row that is not in the index yet.
  void InsertNew(uint64_t hash, uint32_t handle) {
    Insert(Find(hash, [](uint32_t) { return false; }), hash, handle);
  }

  static uint32_t HandleOf(uint32_t entry) { return entry & kHandleMask; }
  static void SetHandle(uint32_t* entry, uint32_t handle) {
    *entry = (*entry & ~kHandleMask) | handle;
  }

  // Brings the start of a probe into the cache. Takes no lock: a stale address does no harm.
  void Prefetch(uint64_t hash) const {
    const uint32_t capacity = capacity_.load(std::memory_order_relaxed);
    const uint32_t* entries = entries_.load(std::memory_order_relaxed);
    __builtin_prefetch(entries + ScaleToRange(static_cast<uint32_t>(hash), capacity));
  }

  int64_t bytes() const;
  int64_t small_bytes() const;  // those outside of the pool's chunks

 private:
  static constexpr uint32_t kHandleMask = (1u << 24) - 1;

  // The low bits, which neither the shard nor the position depends on much.
  static uint32_t Tag(uint64_t hash) {
    const uint32_t tag = hash & 0xff;
    return tag == 0 ? 1 : tag;
  }

  static int Chunks(uint32_t capacity) {
    return static_cast<int>(capacity * sizeof(uint32_t) / ChunkPool::kChunkBytes);
  }

  void Release();

  ChunkPool* const pool_;
  std::atomic<uint32_t*> entries_{nullptr};
  std::atomic<uint32_t> capacity_{0};
  uint32_t size_ = 0;
  uint32_t max_size_ = 0;
};

}  // namespace tfps

#endif  // OPS_CORE_INDEX_H_
