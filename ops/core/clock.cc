#include "ops/core/clock.h"

#include <algorithm>

namespace tfps {

std::optional<std::string> CheckStep(int64_t ticket, int64_t batch, int64_t finished_below) {
  if (ticket < -1) {
    return "step[0], the ticket's number, must be 0 or more, or -1 for no ticket, not " +
           std::to_string(ticket) + ".";
  }
  if (ticket == -1) return std::nullopt;
  if (batch < 0 || batch >= kMaxBatchesOfTicket) {
    return "step[1], the batch's number in its ticket, must be in [0, " +
           std::to_string(kMaxBatchesOfTicket) + "), not " + std::to_string(batch) +
           ": cut smaller tickets.";
  }
  if (finished_below < 0) {
    return "step[2], the number below which all tickets are finished, must not be negative, but "
           "is " +
           std::to_string(finished_below) + ".";
  }
  return std::nullopt;
}

bool Clock::Claim(int64_t ticket, int64_t batch, int64_t finished_below) {
  if (ticket < 0) return true;
  std::lock_guard<std::mutex> lock(mutex_);
  if (finished_below > finished_below_) {
    finished_below_ = finished_below;
    newest_ = std::max(newest_, finished_below - 1);
    running_.erase(running_.begin(), running_.lower_bound(finished_below));
  }
  if (ticket < finished_below_) return false;
  newest_ = std::max(newest_, ticket);
  Batches& batches = running_[ticket];
  if (batch >= static_cast<int64_t>(batches.seen.size())) batches.seen.resize(batch + 1);
  if (batches.seen[batch]) return false;
  batches.seen[batch] = true;
  ++batches.applied;
  return true;
}

int64_t Clock::finished_below() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return finished_below_;
}

void Clock::SetFinishedBelow(int64_t finished_below) {
  std::lock_guard<std::mutex> lock(mutex_);
  finished_below_ = finished_below;
  newest_ = finished_below - 1;
  running_.clear();
}

std::vector<std::pair<int64_t, int64_t>> Clock::Running() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::pair<int64_t, int64_t>> running;
  running.reserve(running_.size());
  for (const auto& [ticket, batches] : running_) running.emplace_back(ticket, batches.applied);
  return running;
}

int64_t Clock::newest() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return newest_;
}

}  // namespace tfps
