// Who looks at a table without a lock, and what therefore must not be used for anything else yet.
//
// Whoever looks holds a slot from the first look to the last. Memory that is let go of gets the
// stamp of that moment, once nothing leads to it any more: it is free when every slot that is held
// was taken later. Nobody waits for anybody.
#ifndef OPS_CORE_READERS_H_
#define OPS_CORE_READERS_H_

#include <atomic>
#include <cstdint>
#include <memory>

namespace tfps {

class Readers {
  struct alignas(64) Slot {
    std::atomic<uint64_t> epoch{0};  // when it was taken; 0: nobody holds it
    // By shard, how many keys were pulled; made by the first holder. Only the holder writes, so no
    // addition need be one atomic step.
    std::atomic<std::atomic<uint64_t>*> pulled{nullptr};
    ~Slot() { delete[] pulled.load(); }
  };

 public:
  explicit Readers(int num_shards);
  Readers(const Readers&) = delete;
  Readers& operator=(const Readers&) = delete;

  // While there is one, what was reachable at its making stays what it is.
  class Reading {
   public:
    explicit Reading(Readers* readers)
        : slot_(readers->Acquire()), pulled_(slot_->pulled.load(std::memory_order_relaxed)) {}
    ~Reading() { slot_->epoch.store(0, std::memory_order_release); }
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;

    void CountPull(uint32_t shard) {
      std::atomic<uint64_t>& pulled = pulled_[shard];
      pulled.store(pulled.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }

   private:
    Slot* const slot_;
    std::atomic<uint64_t>* const pulled_;
  };

  // The stamp of what nobody who begins to look from now on can reach.
  uint64_t Stamp() { return epoch_.fetch_add(1, std::memory_order_acq_rel); }

  // What has a smaller stamp is free.
  uint64_t OldestEpoch();

  int64_t PulledKeys(uint32_t shard) const;

 private:
  static constexpr int kSlots = 64;

  Slot* Acquire();

  const int num_shards_;
  std::atomic<uint64_t> epoch_{1};
  std::unique_ptr<Slot[]> slots_;
};

}  // namespace tfps

#endif  // OPS_CORE_READERS_H_
