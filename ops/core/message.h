// The two messages between a worker and a server: pulled rows, and a push.
//
//   pulled  header | references uint32 (n), if asked for |
//           shows and clicks float32 (n, 2), if asked for | rows (n, width)
//   push    header | slot runs | reader runs, if slots read the rows of others | keys uint64 (n) |
//           references uint32 (n), if known | counts | step shows float32 (n), if they differ from
//           shows | gradients (n, width)
//
// Every part begins at a multiple of 8 bytes of the message, after zeros if needed, so that a
// reader can point into the message. Keys are grouped by slot: a run is a slot and the number of
// keys in a row that have it; likewise a reader run, see PushBatch. Counts are pairs of show and
// click: uint16 if all counts of the message are whole numbers up to 65,535, otherwise float32.
// Numbers are little-endian.
//
// A reader checks all sizes first: whatever the bytes are, it never reads outside of the message.
#ifndef OPS_CORE_MESSAGE_H_
#define OPS_CORE_MESSAGE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "ops/core/push_batch.h"
#include "ops/core/wire_floats.h"

namespace tfps {

// The position of a batch in the run: the number of its ticket (-1: none), its number within the
// ticket, and the number below which all tickets are finished.
struct Step {
  int64_t ticket = -1;
  int64_t batch = 0;
  int64_t finished_below = 0;
};

// The fields that both messages begin with.
struct MessageShape {
  int64_t n = 0;
  int width = 0;
  WireDtype dtype = WireDtype::kFloat32;
  bool references = false;
  int64_t version = 0;  // of the table when the rows were pulled
  bool counts = false;  // of pulled rows: shows and clicks come, too
};

struct PulledMessage {
  MessageShape shape;
  const uint32_t* references;  // (n), or nullptr
  const float* counts;         // (n, 2): show and click, or nullptr
  const char* rows;            // (n, width)
};

int64_t PulledBytes(const MessageShape& shape);

// Writes everything except references, counts and rows of a message of PulledBytes to `message`,
// which must be aligned to 8 bytes.
struct PulledParts {
  uint32_t* references;  // nullptr if there are none
  float* counts;         // likewise
  char* rows;
};
PulledParts WritePulledHeader(const MessageShape& shape, char* message);

// Returns one sentence that says what is wrong with a message; empty if it is right.
std::string ReadPulled(const char* message, int64_t bytes, PulledMessage* pulled);

struct SlotRun {
  int32_t slot;
  uint32_t count;
};

struct ReaderRun {
  int32_t reader;
  uint32_t count;
};

struct PushShape : MessageShape {
  Step step;
  uint32_t runs = 0;
  uint32_t reader_runs = 0;  // 0: each slot read its own rows
  bool whole_counts = false;
  bool step_show = false;
  uint32_t nonfinite_counts = 0;  // examples that added no show or no click: it was not finite
};

struct PushMessage {
  PushShape shape;
  const SlotRun* runs;
  const ReaderRun* reader_runs;
  const uint64_t* keys;
  const uint32_t* references;    // (n), or nullptr
  const uint16_t* whole_counts;  // (n, 2), or nullptr
  const float* counts;           // (n, 2), or nullptr
  const float* step_show;        // (n), or nullptr; see PushBatch
  const char* gradients;         // (n, width)
};

int64_t PushBytes(const PushShape& shape);

// See WritePulledHeader.
struct PushParts {
  SlotRun* runs;
  ReaderRun* reader_runs;
  uint64_t* keys;
  uint32_t* references;
  uint16_t* whole_counts;
  float* counts;
  float* step_show;
  char* gradients;
};
PushParts WritePushHeader(const PushShape& shape, char* message);

std::string ReadPush(const char* message, int64_t bytes, PushMessage* push);

// The size of the first of several push messages in `bytes`; all bytes if it says what cannot be.
int64_t FirstPushBytes(const char* messages, int64_t bytes);

// A message as a batch to push. Keys, references, step shows and float32 gradients point into the
// message; the rest is owned.
class DecodedPush {
 public:
  explicit DecodedPush(const PushMessage& message);

  const PushBatch& batch() const { return batch_; }

 private:
  std::unique_ptr<int32_t[]> slots_;
  std::unique_ptr<int32_t[]> readers_;
  std::unique_ptr<float[]> show_;
  std::unique_ptr<float[]> click_;
  std::unique_ptr<float[]> gradients_;
  PushBatch batch_;
};

}  // namespace tfps

#endif  // OPS_CORE_MESSAGE_H_
