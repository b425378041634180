#include "ops/core/index.h"

#include <algorithm>
#include <cstring>

namespace tfps {
namespace {

constexpr uint32_t kBucketsPerChunk = ChunkPool::kChunkBytes / sizeof(Bucket);

// An index without rows has one empty bucket, so that no search has to check whether there is one.
Bucket no_rows = {};

// The number of buckets of which `rows` rows fill at most 5/6 * 2/3 of the entries: powers of two
// up to 16, then multiples of 16, and whole chunks from one chunk on.
uint32_t BucketsFor(uint32_t rows) {
  const uint64_t wanted = (uint64_t{rows} * 9 / 5 + Bucket::kEntries - 1) / Bucket::kEntries;
  if (wanted >= kBucketsPerChunk) {
    return static_cast<uint32_t>(
        std::min<uint64_t>((wanted + kBucketsPerChunk - 1) / kBucketsPerChunk * kBucketsPerChunk,
                           BucketArray::kMostBuckets));
  }
  if (wanted > 16) return static_cast<uint32_t>((wanted + 15) / 16 * 16);
  uint32_t count = 1;
  while (count < wanted) count *= 2;
  return count;
}

size_t BytesOf(BucketArray buckets) { return buckets.count() * sizeof(Bucket); }

}  // namespace

Index::Index(ChunkPool* pool, std::atomic<uint64_t>* published, uint32_t number)
    : pool_(pool), published_(published), number_(number) {
  published_->store(BucketArray(&no_rows, 1).packed(), std::memory_order_release);
}

Index::~Index() { Free(buckets()); }

void Index::Free(BucketArray buckets) {
  if (buckets.begin() == &no_rows) return;
  pool_->FreeArray(reinterpret_cast<char*>(buckets.begin()), BytesOf(buckets));
}

BucketArray Index::Allocate(uint32_t rows) const {
  const uint32_t count = BucketsFor(rows);
  char* array = pool_->AllocateArray(count * sizeof(Bucket));
  if (array == nullptr) return BucketArray(nullptr, 0);
  std::memset(array, 0, count * sizeof(Bucket));
  return BucketArray(reinterpret_cast<Bucket*>(array), count);
}

void Index::Publish(BucketArray fresh, uint32_t size, uint32_t passed) {
  const BucketArray old = buckets();
  published_->store(fresh.packed(), std::memory_order_release);
  Free(old);
  size_ = size;
  passed_ = passed;
  // After every Rebuild there is room, wherever the rows are.
  max_passed_ = std::max(fresh.count() / 2, passed);
  // From 3/4 to 5/6 of the entries.
  const double part = SplitMix64(number_) % 1024 / 1024.0;
  max_size_ = static_cast<uint32_t>(fresh.count() * Bucket::kEntries * (0.75 + part / 12));
}

bool Index::IsWasteful(uint32_t rows) const { return buckets().count() > 4 * BucketsFor(rows); }

uint32_t Index::InsertInto(BucketArray buckets, uint64_t hash, uint32_t handle) {
  Bucket* bucket = buckets.First(hash);
  uint32_t empty, passed = 0;
  while ((empty = Bucket::Matches(bucket->LoadTags(), 0)) == 0) {
    const uint64_t word = bucket->tags[1].load(std::memory_order_relaxed);
    passed += !(word & Bucket::kPassed);
    bucket->tags[1].store(word | Bucket::kPassed, std::memory_order_release);
    bucket = buckets.After(bucket);
  }
  const int entry = __builtin_ctz(empty);
  bucket->handles[entry].store(handle, std::memory_order_release);
  bucket->SetTag(entry, BucketArray::Tag(hash));
  return passed;
}

void Index::Insert(uint64_t hash, uint32_t handle) {
  passed_ += InsertInto(buckets(), hash, handle);
  ++size_;
}

void Index::SetEntry(uint64_t hash, uint32_t handle, uint32_t new_handle) {
  const BucketArray all = buckets();
  for (Bucket* bucket = all.First(hash);; bucket = all.After(bucket)) {
    uint32_t bits = Bucket::Matches(bucket->LoadTags(), BucketArray::Tag(hash));
    for (; bits != 0; bits &= bits - 1) {
      const int entry = __builtin_ctz(bits);
      if (bucket->HandleAt(entry) != handle) continue;
      if (new_handle == kNone) {
        bucket->SetTag(entry, 0);
      } else {
        bucket->handles[entry].store(new_handle, std::memory_order_release);
      }
      return;
    }
  }
}

void Index::Erase(uint64_t hash, uint32_t handle) {
  SetEntry(hash, handle, kNone);
  --size_;
}

void Index::Replace(uint64_t hash, uint32_t handle, uint32_t new_handle) {
  SetEntry(hash, handle, new_handle);
}

}  // namespace tfps
