#include "ops/core/arena.h"

namespace tfps {

Arena::Arena(const std::vector<SizeClass>* classes, ChunkPool* pool)
    : classes_(classes->data()), pool_(pool), open_(classes->size()) {}

Arena::~Arena() {
  for (char* base : bases_) {
    if (base != nullptr) pool_->Free(base, 1);
  }
}

void Arena::Open(uint32_t chunk) {
  std::vector<uint16_t>& open = open_[chunks_[chunk].size_class];
  chunks_[chunk].open_at = static_cast<uint16_t>(open.size());
  open.push_back(static_cast<uint16_t>(chunk));
}

void Arena::Close(uint32_t chunk) {
  std::vector<uint16_t>& open = open_[chunks_[chunk].size_class];
  const uint16_t at = chunks_[chunk].open_at;
  open[at] = open.back();
  chunks_[open[at]].open_at = at;
  open.pop_back();
  chunks_[chunk].open_at = kNoRow;
}

uint32_t Arena::AddChunk(int size_class) {
  if (unused_.empty() && bases_.size() == kMaxChunks) return kNone;
  char* base = pool_->Allocate(1);
  if (base == nullptr) return kNone;
  uint32_t chunk = static_cast<uint32_t>(bases_.size());
  if (unused_.empty()) {
    bases_.push_back(nullptr);
    chunks_.emplace_back();
    touched_.emplace_back();
  } else {
    chunk = unused_.back();
    unused_.pop_back();
  }
  bases_[chunk] = base;
  chunks_[chunk] = Chunk();
  touched_[chunk] = TouchedBits();
  chunks_[chunk].size_class = static_cast<uint16_t>(size_class);
  Open(chunk);
  return chunk;
}

uint32_t Arena::Allocate(uint64_t key, int size_class) {
  if (open_[size_class].empty() && AddChunk(size_class) == kNone) return kNone;
  const uint32_t number = open_[size_class].back();
  Chunk& chunk = chunks_[number];
  uint32_t row = chunk.free;
  if (row == kNoRow) row = chunk.carved++;
  const uint32_t handle = number << kPlaceBits | row * classes_[size_class].units;
  if (row == chunk.free) chunk.free = static_cast<uint16_t>(At(handle)->slot);
  if (++chunk.live == classes_[size_class].capacity) Close(number);
  At(handle)->key = key;
  At(handle)->flags = 0;
  return handle;
}

void Arena::Free(uint32_t handle) {
  const uint32_t number = handle >> kPlaceBits;
  Chunk& chunk = chunks_[number];
  RowHead* row = At(handle);
  if (row->flags & kTouched) FlipTouchedBit(handle);
  row->key = 0;
  row->flags = 0;
  row->slot = chunk.free;
  chunk.free = static_cast<uint16_t>((handle & kPlaceMask) / ClassOf(number).units);
  if (chunk.live-- == ClassOf(number).capacity) Open(number);
  if (chunk.live > 0) return;
  Close(number);
  pool_->Free(bases_[number], 1);
  bases_[number] = nullptr;
  unused_.push_back(static_cast<uint16_t>(number));
}

void Arena::ClearTouched() {
  ForEachTouched([](RowHead* row) { row->flags &= ~kTouched; });
  for (TouchedBits& bits : touched_) bits = TouchedBits();
}

}  // namespace tfps
