// The rows of one shard, in chunks that each hold rows of one size.
//
// A handle names a row: 13 bits of chunk, 11 bits of place in the chunk in units of 8 bytes, 24
// bits in all. Invariant: a row never moves. A place is free exactly when its key is 0. A chunk
// without rows goes back to the pool at once. Not thread-safe: the shard's lock guards it.
//
// Rows that were touched can be found without looking at the others: a bitmap for each chunk has a bit for every 32
// bytes, fewer than the smallest row. Invariant: a row's bit is set exactly when its kTouched is.
#ifndef OPS_CORE_ARENA_H_
#define OPS_CORE_ARENA_H_

#include <array>
#include <cstdint>
#include <vector>

#include "ops/core/chunk_pool.h"
#include "ops/core/row.h"

namespace tfps {

// Rows of one size: those of a policy that are admitted, or are not. All arenas of a table number
// them alike.
struct SizeClass {
  explicit SizeClass(int row_bytes)
      : units(row_bytes / 8),
        capacity(static_cast<uint32_t>(ChunkPool::kChunkBytes) / row_bytes),
        reciprocal(((1u << 22) + units - 1) / units) {}

  // The number of the row that holds this place of a chunk: place / units, exactly, as both are at most 2^11.
  uint32_t RowAt(uint32_t place) const { return place * reciprocal >> 22; }

  uint32_t units;       // of a row, each 8 bytes
  uint32_t capacity;    // rows in a chunk
  uint32_t reciprocal;  // 2^22 / units, rounded up
};

class Arena {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr int kHandleBits = 24;
  static constexpr int kPlaceBits = 11;
  static constexpr uint32_t kMaxChunks = 1u << (kHandleBits - kPlaceBits);
  static_assert((size_t{8} << kPlaceBits) == ChunkPool::kChunkBytes, "a place is 8 bytes");

  // `classes` and `pool` must outlive the arena.
  Arena(const std::vector<SizeClass>* classes, ChunkPool* pool);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Room for one row, or kNone if all handles are taken or there is no memory left. Only key and
  // flags (none) are set.
  uint32_t Allocate(uint64_t key, int size_class);
  void Free(uint32_t handle);

  RowHead* At(uint32_t handle) const {
    return reinterpret_cast<RowHead*>(bases_[handle >> kPlaceBits] + (handle & kPlaceMask) * 8);
  }

  // Whether the chunk of a handle is in use, so that its bytes may be touched. Any number may be asked about.
  bool HasChunkOf(uint32_t handle) const {
    const uint32_t chunk = handle >> kPlaceBits;
    return chunk < bases_.size() && bases_[chunk] != nullptr;
  }

  // The row in use that has this key, which is not 0, if it is the one that the handle names; otherwise nullptr. Any
  // number may be asked about: one that was a handle once, or never.
  RowHead* FindAt(uint32_t handle, uint64_t key) const {
    if (!HasChunkOf(handle)) return nullptr;
    const uint32_t chunk = handle >> kPlaceBits;
    const uint32_t place = handle & kPlaceMask;
    const SizeClass& size_class = ClassOf(chunk);
    const uint32_t number = size_class.RowAt(place);
    // What lies beyond the carved rows is what the chunk's last owner left.
    if (number >= chunks_[chunk].carved || number * size_class.units != place) return nullptr;
    RowHead* row = At(handle);
    return row->key == key ? row : nullptr;
  }

  int RowBytes(uint32_t handle) const {
    return static_cast<int>(ClassOf(handle >> kPlaceBits).units * 8);
  }

  // Calls visit(handle, row) for each row, in the order of memory. It may free that row, and no
  // other.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (uint32_t c = 0; c < bases_.size(); ++c) {
      const uint32_t stride = ClassOf(c).units;
      for (uint32_t i = 0; bases_[c] != nullptr && i < chunks_[c].carved; ++i) {
        const uint32_t handle = c << kPlaceBits | i * stride;
        RowHead* row = At(handle);
        if (row->key != 0) visit(handle, row);
      }
    }
  }

  // Marks a row; its flags must be set up.
  void Touch(uint32_t handle) {
    RowHead* row = At(handle);
    if (row->flags & kTouched) return;
    row->flags |= kTouched;
    FlipTouchedBit(handle);
  }

  // Calls visit(row) for each touched row, in the order of memory.
  template <typename Visit>
  void ForEachTouched(Visit visit) const {
    for (uint32_t c = 0; c < touched_.size(); ++c) {
      for (uint32_t word = 0; word < touched_[c].size(); ++word) {
        for (uint64_t bits = touched_[c][word]; bits != 0; bits &= bits - 1) {
          const uint32_t bit = 64 * word + __builtin_ctzll(bits);
          visit(At(c << kPlaceBits | RowStart(c, bit << kPlacesPerBitLog)));
        }
      }
    }
  }

  // Forgets all marks.
  void ClearTouched();

  // Of the chunks that it holds.
  int64_t bytes() const {
    return static_cast<int64_t>(bases_.size() - unused_.size()) * ChunkPool::kChunkBytes;
  }

 private:
  static constexpr uint32_t kPlacesPerBitLog = 2;
  static_assert(sizeof(RowHead) >= (8 << kPlacesPerBitLog), "no two rows share a bit");
  using TouchedBits = std::array<uint64_t, (1 << (kPlaceBits - kPlacesPerBitLog)) / 64>;

  static constexpr uint32_t kPlaceMask = (1u << kPlaceBits) - 1;
  static constexpr uint16_t kNoRow = UINT16_MAX;

  struct Chunk {
    uint16_t live = 0;          // rows in use
    uint16_t carved = 0;        // rows that were ever in use; those after have never been touched
    uint16_t free = kNoRow;     // first of the list of free rows, which goes on in their `slot`
    uint16_t open_at = kNoRow;  // position in open_[size_class], if it has room
    uint16_t size_class = 0;
  };

  const SizeClass& ClassOf(uint32_t chunk) const { return classes_[chunks_[chunk].size_class]; }

  // The place of the one row that starts at `place` or in the three that follow it.
  uint32_t RowStart(uint32_t chunk, uint32_t place) const {
    const uint32_t stride = ClassOf(chunk).units;
    return (place + stride - 1) / stride * stride;
  }

  void FlipTouchedBit(uint32_t handle) {
    const uint32_t bit = (handle & kPlaceMask) >> kPlacesPerBitLog;
    touched_[handle >> kPlaceBits][bit / 64] ^= uint64_t{1} << bit % 64;
  }

  uint32_t AddChunk(int size_class);
  void Open(uint32_t chunk);
  void Close(uint32_t chunk);

  const SizeClass* const classes_;
  ChunkPool* const pool_;
  std::vector<char*> bases_;                 // by chunk number; nullptr where it is not in use
  std::vector<Chunk> chunks_;                // likewise
  std::vector<TouchedBits> touched_;         // likewise
  std::vector<uint16_t> unused_;             // chunk numbers not in use
  std::vector<std::vector<uint16_t>> open_;  // of each class, chunks with room; the last is filled
                                             // first
};

}  // namespace tfps

#endif  // OPS_CORE_ARENA_H_
