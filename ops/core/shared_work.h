// A loop whose blocks go to whoever has time for them: the caller and, if they come, helpers.
//
// The caller never waits for a helper that has not begun: where all threads are busy it does the whole
// loop itself, and who comes late finds nothing left.
#ifndef OPS_CORE_SHARED_WORK_H_
#define OPS_CORE_SHARED_WORK_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "ops/core/parallel.h"

namespace tfps {

// Has another thread, perhaps soon and perhaps never, call what it is given.
using Schedule = std::function<void(std::function<void()>)>;

class SharedWork {
 public:
  using Work = std::function<void(int64_t begin, int64_t end)>;

  // Blocks that are worth another thread's while, and for each thread some, to end at the same time.
  static constexpr int64_t kLeastCycles = 50'000;
  static constexpr int64_t kBlocksOfThread = 8;

  // Does `work` for all of [0, total), whose units cost about `cost_per_unit` cycles, with up to
  // `helpers` other threads; returns when all is done.
  static void Run(int64_t total, int64_t cost_per_unit, int helpers, const Schedule& schedule,
                  Work work) {
    if (total <= 0) return;
    const int64_t least = (kLeastCycles - 1) / std::max<int64_t>(cost_per_unit, 1) + 1;
    const int64_t parts = kBlocksOfThread * (helpers + 1);
    const int64_t block = std::max(least, (total - 1) / parts + 1);
    const int64_t others = std::min<int64_t>(helpers, (total - 1) / block);
    if (others <= 0) {
      work(0, total);
      return;
    }
    const auto shared = std::make_shared<SharedWork>(total, block, std::move(work));
    for (int64_t i = 0; i < others; ++i) schedule([shared] { shared->TakePart(); });
    shared->TakePart();
    shared->Wait();
  }

  SharedWork(int64_t total, int64_t block, Work work)
      : total_(total), block_(block), work_(std::move(work)), left_(total) {}

 private:
  void TakePart() {
    for (int64_t begin; (begin = next_.fetch_add(block_)) < total_;) {
      const int64_t end = std::min(begin + block_, total_);
      work_(begin, end);
      if (left_.fetch_sub(end - begin) == end - begin) {
        std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_one();
      }
    }
  }

  // A helper's block ends soon, unless its processor was taken away.
  void Wait() {
    for (int looks = 0; looks < 1000; ++looks) {
      if (left_.load() == 0) return;
      __builtin_ia32_pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return left_.load() == 0; });
  }

  const int64_t total_, block_;
  const Work work_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> left_;
  std::mutex mutex_;
  std::condition_variable done_;
};

}  // namespace tfps

#endif  // OPS_CORE_SHARED_WORK_H_
