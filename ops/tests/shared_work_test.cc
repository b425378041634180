#include "ops/core/shared_work.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "ops/tests/check.h"

namespace tfps {
namespace {

constexpr int64_t kTotal = 1000;

// How often each unit was done.
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
      SharedWork::Run(
          kTotal, cost, helpers,
          [&](std::function<void()> help) { threads.emplace_back(std::move(help)); },
          counts.Work());
      CHECK_TRUE(counts.AllOnce());  // before anybody is waited for
      CHECK_LT(static_cast<int>(threads.size()), helpers + 1);
      for (std::thread& thread : threads) thread.join();
    }
  }
}

TEST(NobodyWaitsForAHelperThatDoesNotCome) {
  std::vector<std::function<void()>> late;
  {
    Counts counts;
    SharedWork::Run(
        kTotal, 1'000'000, 3,
        [&](std::function<void()> help) { late.push_back(std::move(help)); }, counts.Work());
    CHECK_TRUE(counts.AllOnce());
  }
  CHECK_EQ(late.size(), 3u);
  for (const auto& help : late) help();  // What the work was about is gone.
}

TEST(AHelpersBlockIsWaitedFor) {
  std::atomic<bool> caller_began{false}, helper_began{false};
  std::atomic<int64_t> done{0};
  std::thread helper;
  const std::thread::id caller = std::this_thread::get_id();
  SharedWork::Run(
      2, 1'000'000, 1, [&](std::function<void()> help) { helper = std::thread(std::move(help)); },
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

TEST(LittleWorkIsTheCallersAlone) {
  Counts counts;
  SharedWork::Run(
      kTotal, 1, 3, [](std::function<void()>) { CHECK_TRUE(false); }, counts.Work());
  CHECK_TRUE(counts.AllOnce());
  SharedWork::Run(0, 1, 3, nullptr, nullptr);
}

}  // namespace tfps
