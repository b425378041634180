// Batches that are kept until all of them are pushed as one: synchronous training.
#ifndef OPS_CORE_ACCUMULATED_H_
#define OPS_CORE_ACCUMULATED_H_

#include <cstdint>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "ops/core/push_batch.h"

namespace tfps {

// A batch of pushes that owns its rows: 20 + 4 * width bytes each, 4 more with step shows, and 4
// more with readers.
struct OwnedBatch {
  OwnedBatch() = default;
  explicit OwnedBatch(const PushBatch& batch);

  // Valid while this object lives and does not change.
  PushBatch View() const;

  int width = 0;
  std::vector<int64_t> keys;  // the bits of the unsigned keys
  std::vector<int32_t> slots;
  std::vector<float> show, click, gradients;
  std::vector<float> step_show;  // empty: show
  std::vector<int32_t> readers;  // empty: each slot read its own rows
};

// All methods may be called at the same time from any number of threads.
class Accumulated {
 public:
  // Keeps a copy. Throws std::bad_alloc if there is no memory, and then keeps nothing.
  void Add(const PushBatch& batch, int64_t ticket, int64_t batch_number);

  // Returns all batches merged into one, and forgets them. Every key except padding appears once,
  // with the slot of its first row; where there are readers, once for each that it has. Shows and
  // clicks are summed in double, gradients in float. A row is frozen if all that it was merged of
  // was; otherwise frozen rows add their counts only. Rows are merged in the order of (ticket,
  // batch number, row), whatever the order of arrival; batches with the same (ticket, batch number)
  // are merged in order of arrival. The result is as wide as the widest batch; narrower gradients
  // are padded with zeros.
  OwnedBatch TakeMerged();

  // Forgets all batches.
  void Clear();

 private:
  using Batches = std::multimap<std::pair<int64_t, int64_t>, OwnedBatch>;

  Batches TakeAll();

  std::mutex mutex_;
  Batches batches_;  // by (ticket, batch number)
};

}  // namespace tfps

#endif  // OPS_CORE_ACCUMULATED_H_
