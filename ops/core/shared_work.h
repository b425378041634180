// A loop whose blocks are taken by the caller and by helper threads, as they have time.
//
// The caller never waits for a helper that has not started: if all threads are busy the caller does
// the whole loop itself, and a late helper finds nothing left. A helper leaves after its block if
// more threads of the process are in such loops than there are processors: a short loop then runs
// beside a long one, and neither loses its processor in the middle of a block.
//
// An exception in a block, on any thread, is rethrown in the caller once no thread is in the loop.
#ifndef OPS_CORE_SHARED_WORK_H_
#define OPS_CORE_SHARED_WORK_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "ops/core/parallel.h"
#include "ops/core/pause.h"

namespace tfps {

struct Helpers {
  int most = 0;        // in one loop
  int processors = 1;  // for all loops of the process
  // Has another thread call the function, perhaps soon, perhaps late.
  std::function<void(std::function<void()>)> schedule;
};

class SharedWork {
 public:
  using Work = std::function<void(int64_t begin, int64_t end)>;

  // A block must be worth another thread's while, and each thread gets several blocks so that all
  // end at the same time.
  static constexpr int64_t kLeastCycles = 50'000;
  static constexpr int64_t kBlocksOfThread = 8;

  // Does `work` for all of [0, total), whose units cost about `cost_per_unit` cycles; returns when
  // all is done. If blocks threw, all blocks have run, and the first exception is rethrown.
  static void Run(int64_t total, int64_t cost_per_unit, const Helpers& helpers, Work work) {
    if (total <= 0) return;
    const int64_t least = (kLeastCycles - 1) / std::max<int64_t>(cost_per_unit, 1) + 1;
    const int64_t parts = kBlocksOfThread * (helpers.most + 1);
    const int64_t block = std::max(least, (total - 1) / parts + 1);
    const int64_t wanted = std::min<int64_t>(helpers.most, (total - 1) / block);
    const AtWork caller;
    if (wanted <= 0) {
      work(0, total);
      return;
    }
    const auto shared = std::make_shared<SharedWork>(total, block, std::move(work));
    const int processors = helpers.processors;
    const auto help = [shared, processors] {
      const AtWork helper;
      while (at_work_.load(std::memory_order_relaxed) <= processors && shared->DoBlock()) {
      }
    };
    // If a helper cannot be scheduled, the caller does its share.
    for (int64_t i = 0; i < wanted && Schedules(helpers, help); ++i) {
    }
    while (shared->DoBlock()) {
    }
    shared->Wait();
    // Taken out: a helper may hold `shared` for longer than the caller handles the exception.
    if (auto exception = std::exchange(shared->exception_, nullptr)) {
      std::rethrow_exception(std::move(exception));
    }
  }

  SharedWork(int64_t total, int64_t block, Work work)
      : total_(total), block_(block), work_(std::move(work)), left_(total) {}

 private:
  struct AtWork {
    AtWork() { ++at_work_; }
    ~AtWork() { --at_work_; }
  };

  template <typename Help>
  static bool Schedules(const Helpers& helpers, const Help& help) {
    try {
      helpers.schedule(help);
      return true;
    } catch (const std::exception&) {
      return false;
    }
  }

  // Returns false if no block was left.
  bool DoBlock() {
    const int64_t begin = next_.fetch_add(block_);
    if (begin >= total_) return false;
    const int64_t end = std::min(begin + block_, total_);
    try {
      work_(begin, end);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (exception_ == nullptr) exception_ = std::current_exception();
    }
    if (left_.fetch_sub(end - begin) == end - begin) {
      std::lock_guard<std::mutex> lock(mutex_);
      done_.notify_one();
    }
    return true;
  }

  // Waits for the helpers' last blocks, which end soon unless a helper has lost its processor.
  void Wait() {
    for (int looks = 0; looks < 1000; ++looks) {
      if (left_.load() == 0) return;
      Pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return left_.load() == 0; });
  }

  inline static std::atomic<int> at_work_{0};  // threads of the process that are in any loop

  const int64_t total_, block_;
  const Work work_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> left_;
  std::exception_ptr exception_;  // the first; guarded by the mutex until all blocks are done
  std::mutex mutex_;
  std::condition_variable done_;
};

}  // namespace tfps

#endif  // OPS_CORE_SHARED_WORK_H_
