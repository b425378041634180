// What a pull needs of a shard: where its rows are, and whether they change while it looks.
//
// A pull takes no lock. Whoever changes rows makes `sequence` odd before and even after, so that
// who finds the same even number before and after a look has seen one moment. What leaves without
// that (an evicted row, an index that was replaced) is at its place until Readers let go of it, and
// a row that has gone has no key.
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

  // Calls read() and returns whether it saw one moment. It loads what others store by acquire only.
  template <typename Read>
  bool TryRead(Read read) const {
    const uint32_t before = sequence.load(std::memory_order_acquire);
    if (before % 2 != 0) return false;
    read();
    return sequence.load(std::memory_order_relaxed) == before;
  }

  // Around changes, by the one who holds the shard's lock. Changes are stores by release.
  void BeginChange() {
    sequence.store(sequence.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  void EndChange() {
    sequence.store(sequence.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
};

// A change from its making to its end.
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
