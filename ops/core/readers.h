// Epoch-based reclamation: which threads read a table without a lock, and which freed memory they
// may still see.
//
// A thread holds a slot while it reads. Memory gets a stamp once nothing leads to it any more; it
// may be used again when every slot that is held was taken after that stamp. No thread waits for
// another.
#ifndef OPS_CORE_READERS_H_
#define OPS_CORE_READERS_H_

#include <atomic>
#include <cstdint>
#include <memory>

namespace tfps {

class Readers {
  struct alignas(64) Slot {
    std::atomic<uint64_t> epoch{0};  // when it was taken; 0: not held
    // The number of pulled keys by shard; allocated by the first holder. Only the holder writes, so
    // additions need not be atomic.
    std::atomic<std::atomic<uint64_t>*> pulled{nullptr};
    ~Slot() { delete[] pulled.load(); }
  };

 public:
  explicit Readers(int num_shards);
  Readers(const Readers&) = delete;
  Readers& operator=(const Readers&) = delete;

  // While it exists, memory that was reachable when it was made is not used for anything else.
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

  // Returns the stamp for memory that no reader can reach who begins from now on.
  uint64_t Stamp() { return epoch_.fetch_add(1, std::memory_order_acq_rel); }

  // Memory with a smaller stamp may be used again.
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
