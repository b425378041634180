// Where the rows of one shard are: buckets of one cache line, each with 12 entries of an 8-bit tag
// and a 32-bit handle.
//
// A row is in the bucket that its hash names or, if that was full, in one of the next. A bucket
// that a row had to skip is marked as passed and stays so, even after that row is removed. A search
// ends at a bucket that is not passed, or after a whole round. Invariant: at most 5/6 of the
// entries are taken. Once half of the buckets are passed the index has no room until it is rebuilt.
// A tag of 0 is an empty entry.
//
// Changes need the shard's lock. Searches need none while the thread holds a Readers::Reading: a
// search finds every row that is not inserted, moved or removed meanwhile. Any other result must be
// verified; see ShardView.
#ifndef OPS_CORE_INDEX_H_
#define OPS_CORE_INDEX_H_

#include <atomic>
#include <cstdint>

#include "ops/core/chunk_pool.h"
#include "ops/core/hash.h"
#include "ops/core/prefetch.h"
#include "ops/core/tags.h"

namespace tfps {

struct alignas(64) Bucket {
  static constexpr int kEntries = 12;
  static constexpr uint32_t kAll = (1u << kEntries) - 1;
  static constexpr uint64_t kPassed = uint64_t{1} << 56;  // in tags[1]

  std::atomic<uint64_t> tags[2];  // 12 bytes of tags, and kPassed
  std::atomic<uint32_t> handles[kEntries];

  Tags LoadTags() const {
    return Tags(tags[0].load(std::memory_order_acquire), tags[1].load(std::memory_order_acquire));
  }
  // A bit for each entry with this tag.
  static uint32_t Matches(const Tags& tags, uint8_t tag) { return tags.Matches(tag) & kAll; }
  static bool Passed(const Tags& tags) { return tags.LastBit(); }

  uint32_t HandleAt(int entry) const { return handles[entry].load(std::memory_order_acquire); }
  void SetTag(int entry, uint8_t tag) {
    std::atomic<uint64_t>& word = tags[entry / 8];
    const int shift = entry % 8 * 8;
    const uint64_t others = word.load(std::memory_order_relaxed) & ~(uint64_t{0xff} << shift);
    word.store(others | uint64_t{tag} << shift, std::memory_order_release);
  }
};
static_assert(sizeof(Bucket) == 64, "a bucket is one cache line");

// The address and number of the buckets of an index, packed into 64 bits.
class BucketArray {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr int kCountBits = 22;
  static constexpr uint32_t kMostBuckets = (1u << kCountBits) - 1;

  explicit BucketArray(uint64_t packed) : packed_(packed) {}
  BucketArray(Bucket* buckets, uint32_t count)
      : packed_((reinterpret_cast<uintptr_t>(buckets) >> 6) << kCountBits | count) {}

  uint64_t packed() const { return packed_; }
  uint32_t count() const { return packed_ & kMostBuckets; }
  Bucket* begin() const { return reinterpret_cast<Bucket*>(packed_ >> kCountBits << 6); }

  // The bucket at which the search for a hash begins, and the one after another.
  Bucket* First(uint64_t hash) const {
    return begin() + ScaleToRange(static_cast<uint32_t>(hash), count());
  }
  Bucket* After(Bucket* bucket) const { return ++bucket == begin() + count() ? begin() : bucket; }

  // The low bits, on which shard and bucket hardly depend.
  static uint8_t Tag(uint64_t hash) {
    const uint8_t tag = hash & 0xff;
    return tag == 0 ? 1 : tag;
  }

  // Returns the handle with matches(handle) among the candidates of this hash, or kNone.
  template <typename Matches>
  uint32_t Find(uint64_t hash, Matches matches) const {
    const uint8_t tag = Tag(hash);
    Bucket* const first = First(hash);
    Bucket* bucket = first;
    do {
      const Tags tags = bucket->LoadTags();
      for (uint32_t bits = Bucket::Matches(tags, tag); bits != 0; bits &= bits - 1) {
        const uint32_t handle = bucket->HandleAt(__builtin_ctz(bits));
        if (matches(handle)) return handle;
      }
      if (!Bucket::Passed(tags)) return kNone;
      bucket = After(bucket);
    } while (bucket != first);
    return kNone;
  }

  // Returns the first candidate of a hash in its own bucket, or kNone.
  uint32_t Guess(uint64_t hash) const {
    const Bucket* bucket = First(hash);
    const uint32_t bits = Bucket::Matches(bucket->LoadTags(), Tag(hash));
    return bits == 0 ? kNone : bucket->HandleAt(__builtin_ctz(bits));
  }

  [[gnu::always_inline]] void PrefetchFor(uint64_t hash) const { Prefetch(First(hash)); }

 private:
  uint64_t packed_;
};

class Index {
 public:
  static constexpr uint32_t kNone = BucketArray::kNone;

  // Stores the packed buckets in `published`. `number` is the shard's: each shard has its own
  // maximal fill, so that the shards of a table do not all grow at the same time.
  Index(ChunkPool* pool, std::atomic<uint64_t>* published, uint32_t number);
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  BucketArray buckets() const { return BucketArray(published_->load(std::memory_order_acquire)); }

  template <typename Matches>
  uint32_t Find(uint64_t hash, Matches matches) const {
    return buckets().Find(hash, matches);
  }

  // Whether one more row can be inserted.
  bool HasRoom() const { return size_ < max_size_ && passed_ <= max_passed_; }

  // Inserts a row that is not in the index; there must be room.
  void Insert(uint64_t hash, uint32_t handle);

  // Removes a row that is in the index, or gives it another handle.
  void Erase(uint64_t hash, uint32_t handle);
  void Replace(uint64_t hash, uint32_t handle, uint32_t new_handle);

  // Replaces the buckets by others with room for 1.5 * `rows` rows, and inserts what
  // for_each(visit) passes to visit(hash, handle). Concurrent searches see either the old buckets
  // or the new ones. Returns false and changes nothing if there is no memory left.
  template <typename ForEach>
  bool Rebuild(uint32_t rows, ForEach for_each) {
    const BucketArray fresh = Allocate(rows);
    if (fresh.count() == 0) return false;
    uint32_t size = 0, passed = 0;
    for_each([&](uint64_t hash, uint32_t handle) {
      passed += InsertInto(fresh, hash, handle);
      ++size;
    });
    Publish(fresh, size, passed);
    return true;
  }

  int64_t bytes() const { return int64_t{buckets().count()} * sizeof(Bucket); }

  // Whether the index is much larger than `rows` rows need.
  bool IsWasteful(uint32_t rows) const;

 private:
  // Returns the number of buckets that became passed.
  static uint32_t InsertInto(BucketArray buckets, uint64_t hash, uint32_t handle);
  void SetEntry(uint64_t hash, uint32_t handle, uint32_t new_handle);  // kNone: removes it

  BucketArray Allocate(uint32_t rows) const;
  void Publish(BucketArray fresh, uint32_t size, uint32_t passed);
  void Free(BucketArray buckets);

  ChunkPool* const pool_;
  std::atomic<uint64_t>* const published_;
  const uint32_t number_;
  uint32_t size_ = 0;
  uint32_t max_size_ = 0;
  uint32_t passed_ = 0;  // number of buckets that are passed
  uint32_t max_passed_ = 0;
};

}  // namespace tfps

#endif  // OPS_CORE_INDEX_H_
