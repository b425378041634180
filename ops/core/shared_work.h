// A loop whose blocks go to whoever has time for them: the caller and, if they come, helpers.
//
// The caller never waits for a helper that has not begun: where all threads are busy it does the
// whole loop itself, and who comes late finds nothing left. Helpers go, after the block in hand,
// while more threads of the process are at such loops than there are processors for: a short loop
// then runs beside a long one, and neither loses its processor amid a block.
//
// An exception in a block, on whichever thread, is thrown to the caller once no thread is at the
// loop.
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
  int most = 0;        // at one loop
  int processors = 1;  // for all loops of the process
  // Has another thread, perhaps soon and perhaps never, call what it is given.
  std::function<void(std::function<void()>)> schedule;
};

class SharedWork {
 public:
  using Work = std::function<void(int64_t begin, int64_t end)>;

  // Blocks that are worth another thread's while, and for each thread some, to end at the same
  // time.
  static constexpr int64_t kLeastCycles = 50'000;
  static constexpr int64_t kBlocksOfThread = 8;

  // Does `work` for all of [0, total), whose units cost about `cost_per_unit` cycles; returns when
  // all is done. Throws the first exception that a block threw; the other blocks were done.
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
    // The caller does what a helper that cannot be had would have done.
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

  // False if none was left.
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

  // For helpers' last blocks, which end soon unless a processor was taken away.
  void Wait() {
    for (int looks = 0; looks < 1000; ++looks) {
      if (left_.load() == 0) return;
      Pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return left_.load() == 0; });
  }

  inline static std::atomic<int> at_work_{0};  // threads of the process, at any loop

  const int64_t total_, block_;
  const Work work_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> left_;
  std::exception_ptr exception_;  // the first; under the mutex until nothing is left
  std::mutex mutex_;
  std::condition_variable done_;
};

}  // namespace tfps

#endif  // OPS_CORE_SHARED_WORK_H_
