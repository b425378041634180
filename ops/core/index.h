// Where the rows of one shard are: buckets of one cache line, each with 12 entries of an 8-bit tag
// and a 32-bit handle.
//
// A row is in the bucket that its hash names or, where that was full, in one that follows; a bucket
// that a row ever had to pass says so, also when that row or others are gone. Invariant: at most
// 5/6 of the entries are taken. A search ends at a bucket that nobody passed, or where it began;
// once half of the buckets were passed there is no room until they are replaced. A tag of 0 is an
// empty entry.
//
// Whoever changes an index holds its shard's lock. Anyone may look at it at any time, while Readers
// know of it: a look finds every row that is not put in, moved or taken out meanwhile, and what
// else it finds must be looked at again; see ShardView.
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

  std::atomic<uint64_t> tags[2];  // 12 bytes of tags, and whether a row had to pass
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

// The buckets of one index at one moment, in 64 bits.
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

  // The low bits, which neither the shard nor the position depends on much.
  static uint8_t Tag(uint64_t hash) {
    const uint8_t tag = hash & 0xff;
    return tag == 0 ? 1 : tag;
  }

  // The handle for which matches(handle) is true, of those that the hash may have; or kNone.
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

  // The likeliest handle of a hash, or kNone.
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

  // Publishes where the buckets are at `published`. `number` is that of the shard: shards fill up
  // to different degrees, so that not all of a table grow at the same time.
  Index(ChunkPool* pool, std::atomic<uint64_t>* published, uint32_t number);
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  BucketArray buckets() const { return BucketArray(published_->load(std::memory_order_acquire)); }

  template <typename Matches>
  uint32_t Find(uint64_t hash, Matches matches) const {
    return buckets().Find(hash, matches);
  }

  // Whether one more row can be put in.
  bool HasRoom() const { return size_ < max_size_ && passed_ <= max_passed_; }

  // Puts in a row that is not there yet; there must be room.
  void Insert(uint64_t hash, uint32_t handle);

  // Takes out a row that is there, or gives it another handle.
  void Erase(uint64_t hash, uint32_t handle);
  void Replace(uint64_t hash, uint32_t handle, uint32_t new_handle);

  // Replaces the buckets by others with room for `rows` rows and half as many again, and puts in
  // what for_each(visit) visits as visit(hash, handle). Who looks meanwhile finds all or nothing
  // new. False, and nothing changed, if there is no memory left.
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

  // Whether it is much larger than `rows` rows need.
  bool IsWasteful(uint32_t rows) const;

 private:
  // Returns how many buckets were passed for the first time.
  static uint32_t InsertInto(BucketArray buckets, uint64_t hash, uint32_t handle);
  void SetEntry(uint64_t hash, uint32_t handle, uint32_t new_handle);  // kNone: takes it out

  BucketArray Allocate(uint32_t rows) const;
  void Publish(BucketArray fresh, uint32_t size, uint32_t passed);
  void Free(BucketArray buckets);

  ChunkPool* const pool_;
  std::atomic<uint64_t>* const published_;
  const uint32_t number_;
  uint32_t size_ = 0;
  uint32_t max_size_ = 0;
  uint32_t passed_ = 0;  // how many buckets a row ever had to pass
  uint32_t max_passed_ = 0;
};

}  // namespace tfps

#endif  // OPS_CORE_INDEX_H_
