#include "ops/core/shared_work.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ops/tests/check.h"

namespace tfps {
namespace {

constexpr int64_t kTotal = 1000;

// Counts how often each unit was done.
class Counts {
 public:
  SharedWork::Work Work() {
    return [this](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++counts_[i];
    };
  }
  bool AllOnce() const {
    for (const std::atomic<int>& count : counts_) {
      if (count != 1) return false;
    }
    return true;
  }

 private:
  std::vector<std::atomic<int>> counts_ = std::vector<std::atomic<int>>(kTotal);
};

}  // namespace

TEST(EveryUnitIsDoneOnceByWhoeverHelps) {
  for (int helpers : {0, 1, 3, 7}) {
    for (int64_t cost : {0, 1, 1000, 1'000'000}) {
      Counts counts;
      std::vector<std::thread> threads;
      SharedWork::Run(kTotal, cost,
                      {helpers, helpers + 1,
                       [&](std::function<void()> help) { threads.emplace_back(std::move(help)); }},
                      counts.Work());
      CHECK_TRUE(counts.AllOnce());  // before any thread is joined
      CHECK_LT(static_cast<int>(threads.size()), helpers + 1);
      for (std::thread& thread : threads) thread.join();
    }
  }
}

TEST(NobodyWaitsForAHelperThatDoesNotCome) {
  std::vector<std::function<void()>> late;
  {
    Counts counts;
    SharedWork::Run(kTotal, 1'000'000,
                    {3, 4, [&](std::function<void()> help) { late.push_back(std::move(help)); }},
                    counts.Work());
    CHECK_TRUE(counts.AllOnce());
  }
  CHECK_EQ(late.size(), 3u);
  for (const auto& help : late) help();  // The data of the work is gone.
}

TEST(AHelpersBlockIsWaitedFor) {
  std::atomic<bool> caller_began{false}, helper_began{false};
  std::atomic<int64_t> done{0};
  std::thread helper;
  const std::thread::id caller = std::this_thread::get_id();
  SharedWork::Run(
      2, 1'000'000,
      {1, 2, [&](std::function<void()> help) { helper = std::thread(std::move(help)); }},
      [&](int64_t begin, int64_t end) {
        const bool is_caller = std::this_thread::get_id() == caller;
        (is_caller ? caller_began : helper_began) = true;
        while (!(is_caller ? helper_began : caller_began)) std::this_thread::yield();
        if (!is_caller) std::this_thread::sleep_for(std::chrono::milliseconds(20));
        done += end - begin;
      });
  CHECK_EQ(done.load(), 2);
  helper.join();
}

TEST(AnExceptionReachesTheCallerOnceNobodyIsAtWork) {
  const std::thread::id caller = std::this_thread::get_id();
  for (const bool caller_throws : {false, true}) {
    std::atomic<bool> thrown{false};
    std::atomic<int> at_work{0};
    std::atomic<int64_t> done{0};
    std::thread helper;
    std::string caught;
    try {
      SharedWork::Run(
          100, 1'000'000,
          {1, 2, [&](std::function<void()> help) { helper = std::thread(std::move(help)); }},
          [&](int64_t begin, int64_t end) {
            ++at_work;
            done += end - begin;
            if ((std::this_thread::get_id() == caller) != caller_throws) {
              // The other thread throws first, and this block ends later.
              while (!thrown) std::this_thread::yield();
              std::this_thread::sleep_for(std::chrono::milliseconds(1));
              --at_work;
            } else {
              --at_work;
              thrown = true;
              throw std::runtime_error("a block");
            }
          });
    } catch (const std::runtime_error& error) {
      caught = error.what();
      CHECK_EQ(at_work.load(), 0);
    }
    CHECK_EQ(caught, "a block");
    helper.join();
    CHECK_EQ(done.load(), 100);
  }
}

TEST(AHelperThatCannotBeScheduledIsNotNeeded) {
  Counts counts;
  SharedWork::Run(kTotal, 1'000'000, {3, 4, [](std::function<void()>) { throw std::bad_alloc(); }},
                  counts.Work());
  CHECK_TRUE(counts.AllOnce());
}

TEST(LittleWorkIsTheCallersAlone) {
  Counts counts;
  SharedWork::Run(kTotal, 1, {3, 4, [](std::function<void()>) { CHECK_TRUE(false); }},
                  counts.Work());
  CHECK_TRUE(counts.AllOnce());
  SharedWork::Run(0, 1, {3, 4, nullptr}, nullptr);
}

TEST(HelpersGoWhileAnotherLoopWantsTheirProcessor) {
  std::atomic<bool> other_runs{false}, other_may_end{false};
  std::atomic<int> helped_beside{0};
  std::vector<std::thread> threads;
  std::thread other;
  const std::thread::id caller = std::this_thread::get_id();
  SharedWork::Run(
      kTotal, 1'000'000,
      {1, 2, [&](std::function<void()> help) { threads.emplace_back(std::move(help)); }},
      [&](int64_t, int64_t end) {
        if (std::this_thread::get_id() == caller) {
          // From here on a second loop has one of the two processors.
          if (!other.joinable()) {
            other = std::thread([&] {
              SharedWork::Run(1, 1, {}, [&](int64_t, int64_t) {
                other_runs = true;
                while (!other_may_end) std::this_thread::yield();
              });
            });
            while (!other_runs) std::this_thread::yield();
          }
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          if (end == kTotal) other_may_end = true;
        } else {
          // Its first block ends beside the second loop, and leaves the caller some.
          while (!other_runs) std::this_thread::yield();
          ++helped_beside;
        }
      });
  other_may_end = true;
  CHECK_LT(helped_beside.load(), 2);
  other.join();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace tfps
