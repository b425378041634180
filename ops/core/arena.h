// The rows of one shard, in chunks that each hold rows of one size.
//
// A handle names a row: the number of its place of 16 bytes in the memory of all shards, 32 bits.
// Rows begin where their keys lie on a multiple of 16 bytes, those of a chunk's first on a cache
// line. Invariant: a row never moves. A place is free exactly when its key is 0. A chunk without
// rows goes back to the pool at once. Not thread-safe: the shard's lock guards it; who reads rows
// without it uses At and shared.h only.
//
// Rows that were touched can be found without looking at the others: each chunk has a bit for every
// 32 bytes, fewer than the smallest row. Invariant: a row's bit is set exactly when its kTouched
// is.
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

// Rows of one size with their weights in the same place: those of a policy that are admitted, or
// are not. All arenas of a table number them alike.
struct SizeClass {
  // Before the first row of a chunk, for its key to begin a cache line.
  static constexpr uint32_t kChunkMargin = 40;

  explicit SizeClass(int row_bytes, int mf_w_begin = 0, int mf_w_end = 0)
      : bytes(static_cast<uint32_t>(row_bytes)),
        places(bytes / ChunkPool::kPlaceBytes),
        capacity(static_cast<uint32_t>(ChunkPool::kChunkBytes - kChunkMargin) / bytes),
        reciprocal(((1u << 20) + places - 1) / places),
        mf_begin(mf_w_begin),
        mf_end(mf_w_end) {}

  // The number of the row that holds this place after the margin: place / places, exactly, as both
  // are at most 2^10.
  uint32_t RowAt(uint32_t place) const { return place * reciprocal >> 20; }

  uint32_t bytes;        // of a row
  uint32_t places;       // of a row, each 16 bytes
  uint32_t capacity;     // rows in a chunk
  uint32_t reciprocal;   // 2^20 / places, rounded up
  int mf_begin, mf_end;  // which of the floats are mf_w: those that pulls read without a lock
};

// What an arena notes about a chunk of its own. All zeros is a chunk that no arena has had.
struct ChunkOfRows {
  static constexpr uint32_t kNobody = 0;
  static constexpr uint16_t kNoRow = UINT16_MAX;

  std::atomic<uint32_t> owner;  // the number of the arena, plus one; or kNobody
  uint32_t listed_at;           // place in the owner's list of chunks
  uint32_t open_at;             // place in the owner's list of those of its size class with room
  uint16_t size_class;
  uint16_t live;        // rows in use
  uint16_t carved;      // rows that were ever in use; those after have never been touched
  uint16_t free;        // first free row, or kNoRow; the list goes on in their `unseen_days`
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

  // Room for one row, or kNone if there is no memory left. Only key and flags (none) are set.
  uint32_t Allocate(uint64_t key, int size_class);
  void Free(uint32_t handle);

  RowHead* At(uint32_t handle) const { return At(pool_->base(), handle); }
  static RowHead* At(char* base, uint32_t handle) {
    return reinterpret_cast<RowHead*>(base + uint64_t{handle} * ChunkPool::kPlaceBytes + kBias);
  }

  // The row in use that has this key, which is not 0, if it is the one that the handle names;
  // otherwise nullptr. Any number may be asked about: one that was a handle once, or never.
  RowHead* FindAt(uint32_t handle, uint64_t key) const {
    const uint32_t number = handle / kChunkPlaces;
    if (number >= pool_->num_chunks()) return nullptr;
    const ChunkOfRows& chunk = RowsOf(number);
    if (chunk.owner.load(std::memory_order_acquire) != owner_) return nullptr;
    const SizeClass& size_class = classes_[chunk.size_class];
    const uint32_t place = handle % kChunkPlaces - kFirstPlace;
    const uint32_t row_number = size_class.RowAt(place);
    // What lies beyond the carved rows is what the chunk's last owner left.
    if (place >= kChunkPlaces || row_number >= chunk.carved ||
        row_number * size_class.places != place) {
      return nullptr;
    }
    RowHead* row = At(handle);
    return row->key == key ? row : nullptr;
  }

  // Brings what FindAt looks at into the cache. Takes no lock, and any number.
  [[gnu::always_inline]] void PrefetchFor(uint32_t handle) const {
    const uint32_t number = handle / kChunkPlaces;
    if (number >= pool_->num_chunks()) return;
    Prefetch(&RowsOf(number));
    const RowHead* row = At(handle);
    Prefetch(row);
    Prefetch(reinterpret_cast<const char*>(row) + 64);
  }

  int RowBytes(uint32_t handle) const { return static_cast<int>(ClassOf(handle).bytes); }

  // Calls visit(handle, row) for each row, chunk by chunk. It may free that row, and no
  // other.
  template <typename Visit>
  void ForEach(Visit visit) const {
    // From the last: one that becomes empty makes room for the last.
    for (size_t at = chunks_.size(); at-- > 0;) {
      const uint32_t number = chunks_[at];
      const ChunkOfRows& chunk = RowsOf(number);
      const uint32_t places = classes_[chunk.size_class].places;
      const uint32_t carved = chunk.carved;
      // A chunk that its last row has left is somebody else's.
      for (uint32_t i = 0; i < carved && chunk.owner.load() == owner_; ++i) {
        const uint32_t handle = number * kChunkPlaces + kFirstPlace + i * places;
        RowHead* row = At(handle);
        if (row->key != 0) visit(handle, row);
      }
    }
  }

  // Marks a row; its flags must be set up.
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
          // The one row that starts at this place or the next.
          const uint32_t row_number = (place + places - 1) / places;
          visit(At(number * kChunkPlaces + kFirstPlace + row_number * places));
        }
      }
    }
  }

  // Forgets all marks.
  void ClearTouched();

  // Of the chunks that it holds.
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
  const uint32_t owner_;  // as the notes of its chunks name it
  std::vector<uint32_t> chunks_;
  std::vector<std::vector<uint32_t>> open_;  // of each class, chunks with room; the last is filled
                                             // first
};

}  // namespace tfps

#endif  // OPS_CORE_ARENA_H_
