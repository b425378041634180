// What a pull needs to know of a shard: where its rows are, and whether they change meanwhile.
//
// A pull takes no lock: this is a seqlock. Writers make `sequence` odd before a change and even
// after it, so that a reader who finds the same even number before and after has seen one moment.
// Evicted rows and replaced indexes do not change the sequence; their memory stays as it is until
// Readers allow its reuse, and an evicted row has no key.
#ifndef OPS_CORE_SHARD_VIEW_H_
#define OPS_CORE_SHARD_VIEW_H_

#include <atomic>
#include <cstdint>

#include "ops/core/index.h"

namespace tfps {

struct ShardView {
  std::atomic<uint64_t> packed_buckets{0};
  std::atomic<uint32_t> sequence{0};

  BucketArray buckets() const {
    return BucketArray(packed_buckets.load(std::memory_order_acquire));
  }

  // Calls read() and returns whether it saw one moment. read() must use acquire loads for all that
  // others store.
  template <typename Read>
  bool TryRead(Read read) const {
    const uint32_t before = sequence.load(std::memory_order_acquire);
    if (before % 2 != 0) return false;
    read();
    return sequence.load(std::memory_order_relaxed) == before;
  }

  // Called around changes by the thread that holds the shard's lock. Changes are release stores.
  void BeginChange() {
    sequence.store(sequence.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  void EndChange() {
    sequence.store(sequence.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
};

// A change lasts as long as this object.
class Change {
 public:
  explicit Change(ShardView* view) : view_(view) { view_->BeginChange(); }
  ~Change() { view_->EndChange(); }
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;

 private:
  ShardView* const view_;
};

}  // namespace tfps

#endif  // OPS_CORE_SHARD_VIEW_H_
