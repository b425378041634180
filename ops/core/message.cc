#include "ops/core/message.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace tfps {
namespace {

constexpr uint32_t kPulledMagic = 0x314c5054;  // "TPL1"
constexpr uint32_t kPushMagic = 0x32485054;    // "TPH2"

constexpr uint8_t kHasReferences = 1;
constexpr uint8_t kHasWholeCounts = 2;
constexpr uint8_t kHasStepShow = 4;
constexpr uint8_t kHasCounts = 8;
constexpr uint8_t kPulledFlags = kHasReferences | kHasCounts;
constexpr uint8_t kPushFlags = kHasReferences | kHasWholeCounts | kHasStepShow;

struct Header {
  uint32_t magic;
  uint16_t width;
  uint8_t dtype;
  uint8_t flags;
  int64_t n;
  int64_t version;
};
static_assert(sizeof(Header) == 24, "a header has no holes");

struct PushHeader {
  Header header;
  int64_t ticket;
  int64_t batch;
  int64_t finished_below;
  uint32_t runs;
  uint32_t nonfinite_counts;
  uint32_t reader_runs;
  uint32_t unused;
};
static_assert(sizeof(PushHeader) == 64, "a header has no holes");

// No sum of parts overflows: n and runs are less than 2^32, width less than 2^16.
class Layout {
 public:
  explicit Layout(int64_t header_bytes) : end_(header_bytes) {}

  // The offset of the next part.
  int64_t Add(int64_t bytes) {
    const int64_t begin = end_;
    end_ += (bytes + 7) / 8 * 8;
    return begin;
  }

  int64_t end() const { return end_; }

 private:
  int64_t end_;
};

struct PulledLayout {
  explicit PulledLayout(const MessageShape& shape) {
    Layout layout(sizeof(Header));
    references = layout.Add(shape.references ? 4 * shape.n : 0);
    counts = layout.Add(shape.counts ? 8 * shape.n : 0);
    rows = layout.Add(shape.n * shape.width * WireBytes(shape.dtype));
    end = layout.end();
  }

  int64_t references, counts, rows, end;
};

struct PushLayout {
  explicit PushLayout(const PushShape& shape) {
    Layout layout(sizeof(PushHeader));
    runs = layout.Add(int64_t{shape.runs} * sizeof(SlotRun));
    reader_runs = layout.Add(int64_t{shape.reader_runs} * sizeof(ReaderRun));
    keys = layout.Add(8 * shape.n);
    references = layout.Add(shape.references ? 4 * shape.n : 0);
    counts = layout.Add((shape.whole_counts ? 4 : 8) * shape.n);
    step_show = layout.Add(shape.step_show ? 4 * shape.n : 0);
    gradients = layout.Add(shape.n * shape.width * WireBytes(shape.dtype));
    end = layout.end();
  }

  int64_t runs, reader_runs, keys, references, counts, step_show, gradients, end;
};

Header MakeHeader(uint32_t magic, const MessageShape& shape, uint8_t flags) {
  return {magic,
          static_cast<uint16_t>(shape.width),
          static_cast<uint8_t>(shape.dtype),
          static_cast<uint8_t>(flags | (shape.references ? kHasReferences : 0)),
          shape.n,
          shape.version};
}

// Zeroes the up to 7 bytes between a part and the next. A part begins at `begin` or is empty.
void ZeroEnd(char* message, int64_t next) {
  if (next >= 8) std::memset(message + next - 8, 0, 8);
}

std::string ReadHeader(const char* name, const char* message, int64_t bytes, int64_t header_bytes,
                       uint32_t magic, uint8_t known_flags, MessageShape* shape, uint8_t* flags) {
  if (reinterpret_cast<uintptr_t>(message) % 8 != 0) {
    return std::string(name) + " must begin at a multiple of 8 bytes.";
  }
  if (bytes < header_bytes) {
    return std::string(name) + " has " + std::to_string(bytes) +
           " bytes, fewer than its header of " + std::to_string(header_bytes) +
           "; it was cut off on its way.";
  }
  Header header;
  std::memcpy(&header, message, sizeof(header));
  if (header.magic != magic) {
    return std::string(name) +
           " does not begin as one does; worker and server must run the same "
           "version of tfps.";
  }
  if (header.dtype > static_cast<uint8_t>(WireDtype::kFloat16) || (header.flags & ~known_flags) ||
      header.n < 0 || header.n > std::numeric_limits<int32_t>::max()) {
    return std::string(name) +
           " is damaged: its header names a dtype, a flag or a number of rows "
           "that there is not; send it again.";
  }
  shape->n = header.n;
  shape->width = header.width;
  shape->dtype = static_cast<WireDtype>(header.dtype);
  shape->references = header.flags & kHasReferences;
  shape->version = header.version;
  *flags = header.flags;
  return "";
}

// Reads what the layout of a push depends on beside the MessageShape.
void ReadSizes(const PushHeader& header, uint8_t flags, PushShape* shape) {
  shape->runs = header.runs;
  shape->reader_runs = header.reader_runs;
  shape->whole_counts = flags & kHasWholeCounts;
  shape->step_show = flags & kHasStepShow;
}

std::string CheckBytes(const char* name, int64_t bytes, int64_t wanted) {
  if (bytes == wanted) return "";
  return std::string(name) + " has " + std::to_string(bytes) + " bytes, but its header says " +
         std::to_string(wanted) + "; it was cut off on its way.";
}

template <typename Run>
std::string CheckRuns(const char* name, const char* what, const Run* runs, uint32_t num_runs,
                      int64_t n) {
  int64_t keys = 0;
  for (uint32_t r = 0; r < num_runs; ++r) keys += runs[r].count;
  if (keys == n) return "";
  return std::string(name) + " is damaged: its " + what + " have " + std::to_string(keys) +
         " keys, but it holds " + std::to_string(n) + "; send it again.";
}

}  // namespace

int64_t PulledBytes(const MessageShape& shape) { return PulledLayout(shape).end; }

PulledParts WritePulledHeader(const MessageShape& shape, char* message) {
  const PulledLayout layout(shape);
  ZeroEnd(message, layout.counts);
  ZeroEnd(message, layout.end);
  const Header header = MakeHeader(kPulledMagic, shape, shape.counts ? kHasCounts : 0);
  std::memcpy(message, &header, sizeof(header));
  return {shape.references ? reinterpret_cast<uint32_t*>(message + layout.references) : nullptr,
          shape.counts ? reinterpret_cast<float*>(message + layout.counts) : nullptr,
          message + layout.rows};
}

std::string ReadPulled(const char* message, int64_t bytes, PulledMessage* pulled) {
  constexpr char kName[] = "A message of pulled rows";
  uint8_t flags;
  std::string problem = ReadHeader(kName, message, bytes, sizeof(Header), kPulledMagic,
                                   kPulledFlags, &pulled->shape, &flags);
  if (!problem.empty()) return problem;
  pulled->shape.counts = flags & kHasCounts;
  const PulledLayout layout(pulled->shape);
  problem = CheckBytes(kName, bytes, layout.end);
  if (!problem.empty()) return problem;
  pulled->references = pulled->shape.references
                           ? reinterpret_cast<const uint32_t*>(message + layout.references)
                           : nullptr;
  pulled->counts =
      pulled->shape.counts ? reinterpret_cast<const float*>(message + layout.counts) : nullptr;
  pulled->rows = message + layout.rows;
  return "";
}

int64_t PushBytes(const PushShape& shape) { return PushLayout(shape).end; }

PushParts WritePushHeader(const PushShape& shape, char* message) {
  const PushLayout layout(shape);
  for (const int64_t next : {layout.counts, layout.step_show, layout.gradients, layout.end}) {
    ZeroEnd(message, next);
  }
  const uint8_t flags =
      (shape.whole_counts ? kHasWholeCounts : 0) | (shape.step_show ? kHasStepShow : 0);
  const PushHeader header = {MakeHeader(kPushMagic, shape, flags),
                             shape.step.ticket,
                             shape.step.batch,
                             shape.step.finished_below,
                             shape.runs,
                             shape.nonfinite_counts,
                             shape.reader_runs,
                             0};
  std::memcpy(message, &header, sizeof(header));
  char* counts = message + layout.counts;
  return {reinterpret_cast<SlotRun*>(message + layout.runs),
          reinterpret_cast<ReaderRun*>(message + layout.reader_runs),
          reinterpret_cast<uint64_t*>(message + layout.keys),
          shape.references ? reinterpret_cast<uint32_t*>(message + layout.references) : nullptr,
          shape.whole_counts ? reinterpret_cast<uint16_t*>(counts) : nullptr,
          shape.whole_counts ? nullptr : reinterpret_cast<float*>(counts),
          shape.step_show ? reinterpret_cast<float*>(message + layout.step_show) : nullptr,
          message + layout.gradients};
}

std::string ReadPush(const char* message, int64_t bytes, PushMessage* push) {
  constexpr char kName[] = "A push message";
  PushShape& shape = push->shape;
  uint8_t flags;
  std::string problem =
      ReadHeader(kName, message, bytes, sizeof(PushHeader), kPushMagic, kPushFlags, &shape, &flags);
  if (!problem.empty()) return problem;
  PushHeader header;
  std::memcpy(&header, message, sizeof(header));
  shape.step = {header.ticket, header.batch, header.finished_below};
  shape.nonfinite_counts = header.nonfinite_counts;
  ReadSizes(header, flags, &shape);
  const PushLayout layout(shape);
  problem = CheckBytes(kName, bytes, layout.end);
  if (!problem.empty()) return problem;
  push->runs = reinterpret_cast<const SlotRun*>(message + layout.runs);
  push->reader_runs = reinterpret_cast<const ReaderRun*>(message + layout.reader_runs);
  push->keys = reinterpret_cast<const uint64_t*>(message + layout.keys);
  push->references =
      shape.references ? reinterpret_cast<const uint32_t*>(message + layout.references) : nullptr;
  const char* counts = message + layout.counts;
  push->whole_counts = shape.whole_counts ? reinterpret_cast<const uint16_t*>(counts) : nullptr;
  push->counts = shape.whole_counts ? nullptr : reinterpret_cast<const float*>(counts);
  push->step_show =
      shape.step_show ? reinterpret_cast<const float*>(message + layout.step_show) : nullptr;
  push->gradients = message + layout.gradients;
  problem = CheckRuns(kName, "slots", push->runs, shape.runs, shape.n);
  if (!problem.empty() || shape.reader_runs == 0) return problem;
  return CheckRuns(kName, "readers", push->reader_runs, shape.reader_runs, shape.n);
}

int64_t FirstPushBytes(const char* messages, int64_t bytes) {
  PushShape shape;
  uint8_t flags;
  if (!ReadHeader("", messages, bytes, sizeof(PushHeader), kPushMagic, kPushFlags, &shape, &flags)
           .empty()) {
    return bytes;
  }
  PushHeader header;
  std::memcpy(&header, messages, sizeof(header));
  ReadSizes(header, flags, &shape);
  return std::min(bytes, PushLayout(shape).end);
}

DecodedPush::DecodedPush(const PushMessage& message) {
  const PushShape& shape = message.shape;
  slots_.reset(new int32_t[shape.n]);
  int32_t* slot = slots_.get();
  for (uint32_t r = 0; r < shape.runs; ++r) {
    slot = std::fill_n(slot, message.runs[r].count, message.runs[r].slot);
  }
  if (shape.reader_runs > 0) {
    readers_.reset(new int32_t[shape.n]);
    int32_t* reader = readers_.get();
    for (uint32_t r = 0; r < shape.reader_runs; ++r) {
      reader = std::fill_n(reader, message.reader_runs[r].count, message.reader_runs[r].reader);
    }
  }
  show_.reset(new float[shape.n]);
  click_.reset(new float[shape.n]);
  for (int64_t i = 0; i < shape.n; ++i) {
    show_[i] = shape.whole_counts ? message.whole_counts[2 * i] : message.counts[2 * i];
    click_[i] = shape.whole_counts ? message.whole_counts[2 * i + 1] : message.counts[2 * i + 1];
  }
  const float* gradients = reinterpret_cast<const float*>(message.gradients);
  if (shape.dtype != WireDtype::kFloat32) {
    gradients_.reset(new float[shape.n * shape.width]);
    ReadWire(message.gradients, shape.n * shape.width, shape.dtype, gradients_.get());
    gradients = gradients_.get();
  }
  batch_ = {shape.n,      shape.width, message.keys,       slots_.get(),      show_.get(),
            click_.get(), gradients,   message.references, message.step_show, readers_.get()};
}

}  // namespace tfps
