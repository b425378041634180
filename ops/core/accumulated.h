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

// A batch of pushes that owns its rows: 20 + 4 * width bytes each.
struct OwnedBatch {
  OwnedBatch() = default;
  explicit OwnedBatch(const PushBatch& batch);

  // Only while this object lives and does not change.
  PushBatch View() const;

  int width = 0;
  std::vector<int64_t> keys;  // with the bits of the unsigned ones
  std::vector<int32_t> slots;
  std::vector<float> show, click, gradients;
};

// All methods may be called at the same time from any number of threads.
class Accumulated {
 public:
  // Keeps a copy. Throws std::bad_alloc if there is no memory, and then keeps nothing.
  void Add(const PushBatch& batch, int64_t ticket, int64_t batch_number);

  // All that is kept as one batch, and keeps nothing from now on. Every key but padding is there
  // once, with the slot of the first of its rows; shows and clicks are added up in double,
  // gradients in float. Rows come in the order of (ticket, batch number, row), whatever the order
  // of arrival; only those of the same (ticket, batch number) in that of their arrival. The width
  // is that of the widest; narrower gradients end in zeros.
  OwnedBatch TakeMerged();

  // Keeps nothing from now on.
  void Clear();

 private:
  using Batches = std::multimap<std::pair<int64_t, int64_t>, OwnedBatch>;

  Batches TakeAll();

  std::mutex mutex_;
  Batches batches_;  // by (ticket, batch number)
};

}  // namespace tfps

#endif  // OPS_CORE_ACCUMULATED_H_
