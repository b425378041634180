#include "ops/core/arena.h"

namespace tfps {

Arena::Arena(const std::vector<SizeClass>* classes, ChunkPool* pool, uint32_t number)
    : classes_(classes->data()), pool_(pool), owner_(number + 1), open_(classes->size()) {}

Arena::~Arena() {
  while (!chunks_.empty()) RemoveChunk(chunks_.back());
}

void Arena::Open(uint32_t number) {
  ChunkOfRows& chunk = RowsOf(number);
  std::vector<uint32_t>& open = open_[chunk.size_class];
  chunk.open_at = static_cast<uint32_t>(open.size());
  open.push_back(number);
}

void Arena::Close(uint32_t number) {
  const ChunkOfRows& chunk = RowsOf(number);
  std::vector<uint32_t>& open = open_[chunk.size_class];
  open[chunk.open_at] = open.back();
  RowsOf(open.back()).open_at = chunk.open_at;
  open.pop_back();
}

bool Arena::AddChunk(int size_class) {
  const uint32_t number = pool_->Allocate();
  if (number == ChunkPool::kNone) return false;
  ChunkOfRows& chunk = RowsOf(number);
  chunk.listed_at = static_cast<uint32_t>(chunks_.size());
  chunk.size_class = static_cast<uint16_t>(size_class);
  chunk.live = chunk.carved = 0;
  chunk.free = ChunkOfRows::kNoRow;
  std::fill_n(chunk.touched, kTouchedWords, 0);
  chunk.owner.store(owner_, std::memory_order_release);
  chunks_.push_back(number);
  Open(number);
  return true;
}

void Arena::RemoveChunk(uint32_t number) {
  ChunkOfRows& chunk = RowsOf(number);
  chunk.owner.store(ChunkOfRows::kNobody, std::memory_order_release);
  chunks_[chunk.listed_at] = chunks_.back();
  RowsOf(chunks_.back()).listed_at = chunk.listed_at;
  chunks_.pop_back();
  pool_->Free(number);
}

uint32_t Arena::Allocate(uint64_t key, int size_class) {
  if (open_[size_class].empty() && !AddChunk(size_class)) return kNone;
  const uint32_t number = open_[size_class].back();
  ChunkOfRows& chunk = RowsOf(number);
  const bool recycled = chunk.free != ChunkOfRows::kNoRow;
  const uint32_t row_number = recycled ? chunk.free : chunk.carved++;
  const uint32_t handle =
      number * kChunkPlaces + kFirstPlace + row_number * classes_[size_class].places;
  RowHead* row = At(handle);
  if (recycled) chunk.free = row->unseen_days;
  if (++chunk.live == classes_[size_class].capacity) Close(number);
  SetFlags(row, 0);
  SetKey(row, key);
  return handle;
}

void Arena::Free(uint32_t handle) {
  const uint32_t number = handle / kChunkPlaces;
  ChunkOfRows& chunk = RowsOf(number);
  const SizeClass& size_class = classes_[chunk.size_class];
  RowHead* row = At(handle);
  if (row->flags & kTouched) FlipTouchedBit(handle);
  SetKey(row, 0);  // Pulls may be reading the row: of what they read only the key changes.
  row->unseen_days = chunk.free;
  chunk.free = static_cast<uint16_t>(size_class.RowAt(handle % kChunkPlaces - kFirstPlace));
  if (chunk.live-- == size_class.capacity) Open(number);
  if (chunk.live > 0) return;
  Close(number);
  RemoveChunk(number);
}

void Arena::ClearTouched() {
  ForEachTouched([](RowHead* row) { SetFlags(row, row->flags & ~kTouched); });
  for (const uint32_t number : chunks_) {
    std::fill_n(RowsOf(number).touched, kTouchedWords, 0);
  }
}

}  // namespace tfps
