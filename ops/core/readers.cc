#include "ops/core/readers.h"

#include <algorithm>
#include <limits>
#include <thread>

namespace tfps {

Readers::Readers(int num_shards) : num_shards_(num_shards), slots_(new Slot[kSlots]) {}

Readers::Slot* Readers::Acquire() {
  static std::atomic<unsigned> threads{0};
  thread_local const unsigned first = threads++;
  while (true) {
    const uint64_t now = epoch_.load(std::memory_order_acquire);
    for (unsigned i = 0; i < kSlots; ++i) {
      Slot* slot = &slots_[(first + i) % kSlots];
      uint64_t free = 0;
      if (!slot->epoch.compare_exchange_strong(free, now, std::memory_order_acq_rel)) continue;
      if (slot->pulled.load(std::memory_order_relaxed) == nullptr) {
        slot->pulled.store(new std::atomic<uint64_t>[num_shards_](), std::memory_order_release);
      }
      return slot;
    }
    std::this_thread::yield();  // More threads than slots; slots are held only briefly.
  }
}

uint64_t Readers::OldestEpoch() {
  uint64_t oldest = std::numeric_limits<uint64_t>::max();
  for (int i = 0; i < kSlots; ++i) {
    // A read-modify-write: a thread that takes the slot after it sees everything done before it.
    const uint64_t epoch = slots_[i].epoch.fetch_add(0, std::memory_order_acq_rel);
    if (epoch != 0) oldest = std::min(oldest, epoch);
  }
  return oldest;
}

int64_t Readers::PulledKeys(uint32_t shard) const {
  uint64_t pulled = 0;
  for (int i = 0; i < kSlots; ++i) {
    const std::atomic<uint64_t>* counts = slots_[i].pulled.load(std::memory_order_acquire);
    if (counts != nullptr) pulled += counts[shard].load(std::memory_order_relaxed);
  }
  return static_cast<int64_t>(pulled);
}

}  // namespace tfps
