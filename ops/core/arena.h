// The rows of one shard, in chunks that each hold rows of one size.
//
// A handle is the 32-bit number of the 16-byte place where a row begins, counted over the memory of
// all shards. Keys are aligned to 16 bytes, and the key of a chunk's first row to a cache line.
// Invariants: a row never moves; a place is free exactly when its key is 0; a chunk without rows
// goes back to the pool at once. Not thread-safe: the shard's lock guards it. Code that reads rows
// without the lock uses only At and the loads in row.h.
//
// Touched rows can be found without looking at the others: each chunk has one bit for every 32
// bytes, which is less than the smallest row. Invariant: a row's bit is set exactly when its
// kTouched flag is.
#ifndef OPS_CORE_ARENA_H_
#define OPS_CORE_ARENA_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "ops/core/chunk_pool.h"
#include "ops/core/prefetch.h"
#include "ops/core/row.h"

namespace tfps {

// Rows that have the same size and keep their weights in the same place: the admitted rows of a
// policy, or the unadmitted ones. All arenas of a table use the same numbers for them.
struct SizeClass {
  // Bytes before the first row of a chunk, so that its key begins a cache line.
  static constexpr uint32_t kChunkMargin = 40;

  explicit SizeClass(int row_bytes, int mf_w_begin = 0, int mf_w_end = 0)
      : bytes(static_cast<uint32_t>(row_bytes)),
        places(bytes / ChunkPool::kPlaceBytes),
        capacity(static_cast<uint32_t>(ChunkPool::kChunkBytes - kChunkMargin) / bytes),
        reciprocal(((1u << 20) + places - 1) / places),
        mf_begin(mf_w_begin),
        mf_end(mf_w_end) {}

  // The number of the row that holds this place, counted from the margin: place / places, exactly,
  // because both are at most 2^10.
  uint32_t RowAt(uint32_t place) const { return place * reciprocal >> 20; }

  uint32_t bytes;        // of a row
  uint32_t places;       // of a row, each 16 bytes
  uint32_t capacity;     // rows in a chunk
  uint32_t reciprocal;   // 2^20 / places, rounded up
  int mf_begin, mf_end;  // the floats that are mf_w, which pulls read without a lock
};

// What an arena notes about one of its chunks. All zeros: no arena has owned the chunk yet.
struct ChunkOfRows {
  static constexpr uint32_t kNobody = 0;
  static constexpr uint16_t kNoRow = UINT16_MAX;

  std::atomic<uint32_t> owner;  // the number of the arena, plus one; or kNobody
  uint32_t listed_at;           // index in the owner's list of chunks
  uint32_t open_at;             // index in the owner's list of chunks of this size class with room
  uint16_t size_class;
  uint16_t live;    // rows in use
  uint16_t carved;  // rows that were ever in use; memory after them is as the last owner left it
  uint16_t free;    // first free row, or kNoRow; each free row links to the next by `unseen_days`
  uint64_t touched[8];  // a bit for every 32 bytes
};
static_assert(sizeof(ChunkOfRows) <= ChunkPool::kNotesBytes);

class Arena {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // `classes` and `pool` must outlive the arena. No two arenas of a pool have the same number.
  Arena(const std::vector<SizeClass>* classes, ChunkPool* pool, uint32_t number);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // The most bytes that a row can have.
  static constexpr int kMostRowBytes = ChunkPool::kChunkBytes - SizeClass::kChunkMargin;

  // Returns memory for one row, or kNone if there is none left. Sets only the key, and clears the
  // flags.
  uint32_t Allocate(uint64_t key, int size_class);
  void Free(uint32_t handle);

  RowHead* At(uint32_t handle) const { return At(pool_->base(), handle); }
  static RowHead* At(char* base, uint32_t handle) {
    return reinterpret_cast<RowHead*>(base + uint64_t{handle} * ChunkPool::kPlaceBytes + kBias);
  }

  // Returns the row that `handle` names if it is in use and has this key, which must not be 0;
  // otherwise nullptr. Any number may be passed, even one that never was a handle.
  RowHead* FindAt(uint32_t handle, uint64_t key) const {
    const uint32_t number = handle / kChunkPlaces;
    if (number >= pool_->num_chunks()) return nullptr;
    const ChunkOfRows& chunk = RowsOf(number);
    if (chunk.owner.load(std::memory_order_acquire) != owner_) return nullptr;
    const SizeClass& size_class = classes_[chunk.size_class];
    const uint32_t place = handle % kChunkPlaces - kFirstPlace;
    const uint32_t row_number = size_class.RowAt(place);
    // Beyond the carved rows lies whatever the chunk's last owner left.
    if (place >= kChunkPlaces || row_number >= chunk.carved ||
        row_number * size_class.places != place) {
      return nullptr;
    }
    RowHead* row = At(handle);
    return row->key == key ? row : nullptr;
  }

  // Prefetches what FindAt reads. Takes no lock; any number may be passed.
  [[gnu::always_inline]] void PrefetchFor(uint32_t handle) const {
    const uint32_t number = handle / kChunkPlaces;
    if (number >= pool_->num_chunks()) return;
    Prefetch(&RowsOf(number));
    const RowHead* row = At(handle);
    Prefetch(row);
    Prefetch(reinterpret_cast<const char*>(row) + 64);
  }

  int RowBytes(uint32_t handle) const { return static_cast<int>(ClassOf(handle).bytes); }

  // Calls visit(handle, row) for each row, chunk by chunk. The visitor may free that row but
  // no other.
  template <typename Visit>
  void ForEach(Visit visit) const {
    // Backwards: when a chunk becomes empty, the last one of the list takes its index.
    for (size_t at = chunks_.size(); at-- > 0;) {
      const uint32_t number = chunks_[at];
      const ChunkOfRows& chunk = RowsOf(number);
      const uint32_t places = classes_[chunk.size_class].places;
      const uint32_t carved = chunk.carved;
      // Once its last row has been freed the chunk may belong to another arena.
      for (uint32_t i = 0; i < carved && chunk.owner.load() == owner_; ++i) {
        const uint32_t handle = number * kChunkPlaces + kFirstPlace + i * places;
        RowHead* row = At(handle);
        if (row->key != 0) visit(handle, row);
      }
    }
  }

  // Marks a row as touched. Its flags must have been initialised.
  void Touch(uint32_t handle) {
    RowHead* row = At(handle);
    if (row->flags & kTouched) return;
    SetFlags(row, row->flags | kTouched);
    FlipTouchedBit(handle);
  }

  // Calls visit(row) for each touched row, chunk by chunk.
  template <typename Visit>
  void ForEachTouched(Visit visit) const {
    for (const uint32_t number : chunks_) {
      const ChunkOfRows& chunk = RowsOf(number);
      for (uint32_t word = 0; word < kTouchedWords; ++word) {
        for (uint64_t bits = chunk.touched[word]; bits != 0; bits &= bits - 1) {
          const uint32_t place = (64 * word + __builtin_ctzll(bits)) * kPlacesPerBit;
          const uint32_t places = classes_[chunk.size_class].places;
          // The one row that begins at this place or the next.
          const uint32_t row_number = (place + places - 1) / places;
          visit(At(number * kChunkPlaces + kFirstPlace + row_number * places));
        }
      }
    }
  }

  // Marks all rows as untouched.
  void ClearTouched();

  // Bytes of all chunks that this arena owns.
  int64_t bytes() const { return static_cast<int64_t>(chunks_.size()) * ChunkPool::kChunkBytes; }

 private:
  static constexpr uint32_t kChunkPlaces = ChunkPool::kChunkBytes / ChunkPool::kPlaceBytes;
  static constexpr uint32_t kFirstPlace = SizeClass::kChunkMargin / ChunkPool::kPlaceBytes;
  static constexpr uint32_t kBias = SizeClass::kChunkMargin % ChunkPool::kPlaceBytes;
  static constexpr uint32_t kPlacesPerBit = 2;
  static constexpr uint32_t kTouchedWords = kChunkPlaces / kPlacesPerBit / 64;
  static_assert(sizeof(RowHead) > kPlacesPerBit * ChunkPool::kPlaceBytes,
                "no two rows share a bit");
  static_assert(sizeof(ChunkOfRows::touched) == kTouchedWords * sizeof(uint64_t),
                "a bit for every 32 bytes");

  ChunkOfRows& RowsOf(uint32_t chunk) const {
    return *reinterpret_cast<ChunkOfRows*>(pool_->NotesOf(chunk));
  }

  const SizeClass& ClassOf(uint32_t handle) const {
    return classes_[RowsOf(handle / kChunkPlaces).size_class];
  }

  void FlipTouchedBit(uint32_t handle) {
    const uint32_t bit = (handle % kChunkPlaces - kFirstPlace) / kPlacesPerBit;
    RowsOf(handle / kChunkPlaces).touched[bit / 64] ^= uint64_t{1} << bit % 64;
  }

  bool AddChunk(int size_class);
  void RemoveChunk(uint32_t number);
  void Open(uint32_t number);
  void Close(uint32_t number);

  const SizeClass* const classes_;
  ChunkPool* const pool_;
  const uint32_t owner_;  // what `owner` is in its chunks
  std::vector<uint32_t> chunks_;
  std::vector<std::vector<uint32_t>> open_;  // by class, chunks with room; the last is filled
                                             // first
};

}  // namespace tfps

#endif  // OPS_CORE_ARENA_H_
