// The worker's side of a push: turns the gradients of a step into one message for each server.
#ifndef OPS_CORE_MAKE_PUSH_H_
#define OPS_CORE_MAKE_PUSH_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "ops/core/bags.h"
#include "ops/core/message.h"

namespace tfps {

// The part of a lookup that one server holds.
struct PulledPart {
  int64_t n;
  const int64_t* keys;         // (n), each once
  const int32_t* slots;        // (n)
  const uint32_t* references;  // (n), or nullptr
  int64_t version;
};

// One pull of a step. Its rows are those of server 0, then of server 1, and so on.
struct PushedLookup {
  std::vector<PulledPart> parts;  // by server
  Bags bags;                      // must have passed CheckBags
  const float* gradients;         // (rows, width)
  int width;
  bool frozen = false;  // It adds counts only, and its gradients may be anything.
  // See PushBatch. If some lookup has another reader than kOwnSlot, rows that are in none of a
  // lookup's bags are none of it: several lookups may be parts of one pull.
  int32_t reader = kOwnSlot;
};

struct MakePushInput {
  std::vector<PushedLookup> lookups;  // all of one table, and over as many servers
  const float* show;                  // (batch_size)
  const float* click;                 // (batch_size)
  float scale;                        // gradients are multiplied by it
  Step step;
  WireDtype dtype;
};

// Sums show and click over the occurrences of each feasign: a feasign that occurs twice in an
// example counts twice. An example whose show is not finite adds nothing, one whose click is not
// finite its show only. Merges the lookups: each key has one row, or one for each of its readers,
// with the sums of its counts and gradients and with the slot and reference of the first lookup
// that has it. A gradient that is narrower than another is padded with zeros. A row that only
// frozen lookups have is frozen; of others the step show is that of the lookups that are not.
class PushMaker {
 public:
  // `input`, and what it points to, must outlive this object.
  explicit PushMaker(const MakePushInput& input);
  ~PushMaker();

  int64_t Bytes(int server) const;

  // Writes Bytes(server) at `message`, which begins at a multiple of 8 bytes.
  void Write(int server, char* message) const;

 private:
  class RowCounts;
  class Merger;
  struct MergedRows;
  struct Part;

  void ReadCounts();
  void CountRows();
  Part OnlyPart(int server, int64_t first_row) const;
  Part MergedPart(int server, const std::vector<int64_t>& first_rows);

  const MakePushInput& input_;
  bool with_readers_ = false;
  std::vector<float> show_, click_;                  // (batch_size), finite
  uint32_t nonfinite_counts_ = 0;                    // examples with a count that was not
  std::vector<RowCounts> counts_;                    // by lookup
  std::vector<std::vector<bool>> is_there_;          // by lookup, if there are readers
  std::vector<std::unique_ptr<MergedRows>> merged_;  // what parts point to
  std::vector<Part> parts_;                          // by server
};

}  // namespace tfps

#endif  // OPS_CORE_MAKE_PUSH_H_
