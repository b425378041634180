// Which batches of which tickets were applied, so that each is applied once, however often it
// arrives.
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

// Returns one sentence if this cannot be the step of a batch: (ticket number, batch number within
// the ticket, number below which all tickets are finished). A ticket of -1 means no ticket.
std::optional<std::string> CheckStep(int64_t ticket, int64_t batch, int64_t finished_below);

// All methods may be called at the same time from any number of threads.
class Clock {
 public:
  // Returns whether this batch is new, and remembers it. Forgets all tickets below `finished_below`
  // first; their batches are not new, now and later. A negative ticket means no ticket: it is
  // always new and is not remembered. Otherwise the step must pass CheckStep.
  bool Claim(int64_t ticket, int64_t batch, int64_t finished_below);

  // Tickets below this number are finished; their batches are not new.
  int64_t finished_below() const;

  // Sets the clock of a restored state: tickets below are finished, all others have not begun.
  void SetFinishedBelow(int64_t finished_below);

  // (ticket, number of its batches that were applied) of each unfinished ticket, in order.
  std::vector<std::pair<int64_t, int64_t>> Running() const;

  // The largest ticket number that was claimed; finished_below - 1 if there is no larger one.
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
