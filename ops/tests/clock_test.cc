#include "ops/core/clock.h"

#include <atomic>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "ops/tests/check.h"

namespace tfps {

using Counts = std::vector<std::pair<int64_t, int64_t>>;

TEST(EachBatchIsNewOnce) {
  Clock clock;
  CHECK_TRUE(clock.Claim(3, 0, 0));
  CHECK_TRUE(clock.Claim(3, 70, 0));
  CHECK_TRUE(clock.Claim(3, 1, 0));
  CHECK_TRUE(clock.Claim(5, 1, 0));
  for (int64_t batch : {0, 70, 1}) CHECK_FALSE(clock.Claim(3, batch, 0));
  CHECK_FALSE(clock.Claim(5, 1, 0));
  CHECK_TRUE(clock.Claim(3, 69, 0));
  CHECK_TRUE((clock.Running() == Counts{{3, 4}, {5, 1}}));
}

TEST(AFinishedTicketIsForgottenAndNeverNew) {
  Clock clock;
  for (int64_t ticket = 0; ticket < 4; ++ticket) CHECK_TRUE(clock.Claim(ticket, 0, 0));
  CHECK_TRUE(clock.Claim(4, 0, 3));
  CHECK_EQ(clock.finished_below(), 3);
  CHECK_TRUE((clock.Running() == Counts{{3, 1}, {4, 1}}));
  CHECK_FALSE(clock.Claim(2, 0, 3));
  CHECK_FALSE(clock.Claim(2, 9, 0));  // A late message.
  CHECK_EQ(clock.finished_below(), 3);
  CHECK_FALSE(clock.Claim(4, 1, 5));  // Its own finished_below says that it is finished.
  CHECK_TRUE(clock.Running().empty());
}

TEST(NoTicketIsAlwaysNew) {
  Clock clock;
  for (int i = 0; i < 3; ++i) CHECK_TRUE(clock.Claim(-1, 0, 100));
  CHECK_EQ(clock.finished_below(), 0);
  CHECK_TRUE(clock.Running().empty());
}

TEST(TheNewestIsTheLargestThatClaimed) {
  Clock clock;
  CHECK_EQ(clock.newest(), -1);
  clock.Claim(7, 0, 0);
  clock.Claim(4, 0, 0);
  CHECK_EQ(clock.newest(), 7);
  clock.Claim(2, 0, 10);
  CHECK_EQ(clock.newest(), 9);
}

TEST(ARestoredClockBeginsAtItsNumber) {
  Clock clock;
  clock.Claim(8, 0, 8);
  clock.SetFinishedBelow(8);
  CHECK_TRUE(clock.Running().empty());
  CHECK_EQ(clock.newest(), 7);
  CHECK_FALSE(clock.Claim(7, 0, 0));
  CHECK_TRUE(clock.Claim(8, 0, 8));
  clock.SetFinishedBelow(2);  // An older state.
  CHECK_EQ(clock.finished_below(), 2);
  CHECK_TRUE(clock.Claim(7, 0, 0));
}

TEST(AStepThatCannotBeIsNamed) {
  CHECK_FALSE(CheckStep(-1, -5, -5));
  CHECK_FALSE(CheckStep(0, 0, 0));
  CHECK_FALSE(CheckStep(0, kMaxBatchesOfTicket - 1, 9));
  CHECK_EQ(*CheckStep(-2, 0, 0),
           "step[0], the ticket's number, must be 0 or more, or -1 for no ticket, not -2.");
  CHECK_EQ(*CheckStep(0, 1 << 24, 0),
           "step[1], the batch's number in its ticket, must be in [0, 16777216), not 16777216: cut "
           "smaller tickets.");
  CHECK_EQ(CheckStep(0, -1, 0)->substr(0, 7), "step[1]");
  CHECK_EQ(CheckStep(0, 0, -1)->substr(0, 7), "step[2]");
}

// Four threads send the same batches, each in its own order.
TEST(OneOfManyThreadsClaimsEachBatch) {
  constexpr int kThreads = 4, kTickets = 40, kBatches = 50;
  Clock clock;
  std::vector<std::atomic<int>> claimed(kTickets * kBatches);
  std::atomic<int> started{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      ++started;
      while (started < kThreads) std::this_thread::yield();
      for (int ticket = 0; ticket < kTickets; ++ticket) {
        const int first = static_cast<int>(random() % kBatches);
        for (int i = 0; i < kBatches; ++i) {
          const int batch = (first + i) % kBatches;
          if (clock.Claim(ticket, batch, 0)) ++claimed[ticket * kBatches + batch];
        }
        clock.Running();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::atomic<int>& times : claimed) CHECK_EQ(times.load(), 1);
  CHECK_EQ(clock.Running().size(), size_t{kTickets});
  for (const auto& [ticket, applied] : clock.Running()) CHECK_EQ(applied, int64_t{kBatches});
  CHECK_TRUE(clock.Claim(kTickets, 0, kTickets));
  CHECK_EQ(clock.Running().size(), size_t{1});
}

}  // namespace tfps
