// Which batches of which tickets were applied, so that each is applied once however often it comes.
//
// A ticket has a number (0, 1, 2, ... in the order of scheduling) and its batches have theirs. A
// ticket that is run again, because its worker was lost, sends its batches again. Only tickets that
// are running take memory: one bit per batch.
#ifndef OPS_CORE_CLOCK_H_
#define OPS_CORE_CLOCK_H_

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tfps {

// The most batches a ticket may have: a bitmap of 2 MiB.
constexpr int64_t kMaxBatchesOfTicket = int64_t{1} << 24;

// Returns one sentence if this cannot be the step of a batch: (ticket number, batch number in the
// ticket, the number below which all tickets are finished). A ticket of -1 is none.
std::optional<std::string> CheckStep(int64_t ticket, int64_t batch, int64_t finished_below);

// All methods may be called at the same time from any number of threads.
class Clock {
 public:
  // Whether this batch is new; from now on it is not. First forgets all tickets below
  // `finished_below`; none of them is new, here and later. A negative ticket is no ticket: always
  // new, and nothing is remembered. Otherwise the step must pass CheckStep.
  bool Claim(int64_t ticket, int64_t batch, int64_t finished_below);

  // All tickets below are finished, and their batches are not new.
  int64_t finished_below() const;

  // The clock of a restored state: all tickets below are finished, all others have not begun.
  void SetFinishedBelow(int64_t finished_below);

  // (ticket, how many of its batches are applied) of those that have not finished, in their order.
  std::vector<std::pair<int64_t, int64_t>> Running() const;

  // The largest number of a ticket that claimed; one less than finished_below if none beyond did.
  int64_t newest() const;

 private:
  struct Batches {
    int64_t applied = 0;
    std::vector<bool> seen;  // by batch number
  };

  mutable std::mutex mutex_;
  int64_t finished_below_ = 0;
  int64_t newest_ = -1;
  std::map<int64_t, Batches> running_;
};

}  // namespace tfps

#endif  // OPS_CORE_CLOCK_H_
