#include "ops/core/message.h"

#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ops/core/make_push.h"
#include "ops/tests/buffer.h"
#include "ops/tests/check.h"
#include "ops/tests/table_testing.h"

namespace tfps {
namespace {

using tfps_test::Buffer;
using tfps_test::IsASentence;

Buffer MakePulled(int64_t n, int width, WireDtype dtype, bool references) {
  MessageShape shape;
  shape.n = n;
  shape.width = width;
  shape.dtype = dtype;
  shape.references = references;
  shape.version = 77;
  Buffer buffer(PulledBytes(shape));
  const PulledParts parts = WritePulledHeader(shape, buffer.data());
  std::vector<float> rows;
  for (int64_t i = 0; i < n * width; ++i) rows.push_back(static_cast<float>(i % 100));
  RoundToNearest(rows.data(), n * width, dtype, parts.rows);
  for (int64_t i = 0; references && i < n; ++i) parts.references[i] = static_cast<uint32_t>(3 * i);
  return buffer;
}

// Keys 1 to n in three slots; key k has k shows.
struct TestPush {
  TestPush(int64_t n, int width, WireDtype dtype, bool references, float show_of_each = 1,
           bool frozen = false, int32_t reader = kOwnSlot) {
    for (int64_t i = 0; i < n; ++i) {
      keys.push_back(i + 1);
      slots.push_back(static_cast<int32_t>(i * 3 / n) * 5);
      handles.push_back(static_cast<uint32_t>(i * 7));
      positions.push_back(static_cast<int32_t>(i));
      show.push_back(show_of_each * (i + 1));
      click.push_back(static_cast<float>(i % 2));
    }
    gradients.resize(n * width);
    for (size_t i = 0; i < gradients.size(); ++i) gradients[i] = 0.5f * (i % 50);
    row_splits.push_back(0);
    for (int64_t i = 0; i < n; ++i) row_splits.push_back(i + 1);
    PushedLookup lookup;
    lookup.parts = {{n, keys.data(), slots.data(), references ? handles.data() : nullptr, 9}};
    lookup.bags = {positions.data(), n, row_splits.data(), n > 0, n};
    lookup.gradients = gradients.data();
    lookup.width = width;
    lookup.frozen = frozen;
    lookup.reader = reader;
    input.lookups = {lookup};
    input.show = show.data();
    input.click = click.data();
    input.scale = 1;
    input.step = {4, 5, 2};
    input.dtype = dtype;
  }

  Buffer Message() const {
    const PushMaker maker(input);
    Buffer buffer(maker.Bytes(0));
    maker.Write(0, buffer.data());
    return buffer;
  }

  std::vector<int64_t> keys;
  std::vector<int32_t> slots, positions;
  std::vector<uint32_t> handles;
  std::vector<int64_t> row_splits;
  std::vector<float> gradients, show, click;
  MakePushInput input;
};

constexpr WireDtype kDtypes[] = {WireDtype::kFloat32, WireDtype::kBfloat16, WireDtype::kFloat16};

// Reads everything that a message says it has.
void Use(const PushMessage& message) {
  const DecodedPush push(message);
  const PushBatch& batch = push.batch();
  double sum = 0;
  for (int64_t i = 0; i < batch.n; ++i) {
    sum += batch.keys[i] + batch.slots[i] + batch.show[i] + batch.click[i];
    if (batch.references != nullptr) sum += batch.references[i];
    if (batch.readers != nullptr) sum += batch.readers[i];
    sum += batch.StepShow(i);
  }
  for (int64_t i = 0; i < batch.n * batch.width; ++i) sum += batch.gradients[i];
  volatile double used = sum;
  (void)used;
}

void Use(const PulledMessage& message) {
  std::vector<float> rows(message.shape.n * message.shape.width);
  ReadWire(message.rows, rows.size(), message.shape.dtype, rows.data());
  uint32_t sum = 0;
  for (int64_t i = 0; message.references != nullptr && i < message.shape.n; ++i) {
    sum += message.references[i];
  }
  volatile uint32_t used = sum;
  (void)used;
}

// Reads several messages as an op does: counts those before the first that is refused.
int ReadAll(const char* messages, int64_t bytes, std::string* problem) {
  int whole = 0;
  problem->clear();
  for (int64_t at = 0; at < bytes; ++whole) {
    const int64_t first = FirstPushBytes(messages + at, bytes - at);
    CHECK_TRUE(0 < first && first <= bytes - at);
    PushMessage message;
    *problem = ReadPush(messages + at, first, &message);
    if (!problem->empty()) return whole;
    Use(message);
    at += first;
  }
  return whole;
}

std::string ThreePushes(WireDtype dtype, std::vector<int64_t>* begins) {
  std::string messages;
  for (const int64_t n : {7, 0, 3}) {
    begins->push_back(messages.size());
    Buffer one =
        TestPush(n, 3, dtype, n == 7, n == 7 ? 1 : 0.5f, n == 3, n == 3 ? -2 : 0).Message();
    messages.append(one.data(), one.size);
  }
  return messages;
}

}  // namespace

TEST(PulledRowsComeBack) {
  for (const WireDtype dtype : kDtypes) {
    for (const int64_t n : {0, 1, 2, 7, 1000}) {
      for (const bool references : {false, true}) {
        Buffer buffer = MakePulled(n, 3, dtype, references);
        PulledMessage message;
        CHECK_EQ(ReadPulled(buffer.data(), buffer.size, &message), "");
        CHECK_EQ(message.shape.n, n);
        CHECK_EQ(message.shape.width, 3);
        CHECK_EQ(message.shape.version, 77);
        CHECK_EQ(message.references != nullptr, references);
        std::vector<float> rows(n * 3);
        ReadWire(message.rows, n * 3, message.shape.dtype, rows.data());
        for (int64_t i = 0; i < n * 3; ++i) CHECK_EQ(rows[i], i % 100);
        for (int64_t i = 0; references && i < n; ++i) CHECK_EQ(message.references[i], 3 * i);
      }
    }
  }
}

TEST(APushComesBack) {
  for (const WireDtype dtype : kDtypes) {
    for (const int64_t n : {0, 1, 2, 7, 1000}) {
      for (const float show : {1.0f, 0.25f, 1000.0f}) {
        const TestPush push(n, 3, dtype, n % 2, show);
        Buffer buffer = push.Message();
        PushMessage message;
        CHECK_EQ(ReadPush(buffer.data(), buffer.size, &message), "");
        CHECK_EQ(message.shape.version, 9);
        CHECK_EQ(message.shape.step.ticket, 4);
        CHECK_EQ(message.shape.step.batch, 5);
        CHECK_EQ(message.shape.step.finished_below, 2);
        CHECK_LE(message.shape.runs, 3u);
        const bool whole = n == 0 || show == 1 || (show == 1000 && n <= 65);
        CHECK_EQ(message.shape.whole_counts, whole);
        const DecodedPush decoded(message);
        const PushBatch& batch = decoded.batch();
        CHECK_EQ(batch.n, n);
        CHECK_EQ(batch.width, 3);
        CHECK_EQ(batch.references != nullptr, n % 2 == 1);
        for (int64_t i = 0; i < n; ++i) {
          CHECK_EQ(batch.keys[i], static_cast<uint64_t>(push.keys[i]));
          CHECK_EQ(batch.slots[i], push.slots[i]);
          CHECK_EQ(batch.show[i], push.show[i]);
          CHECK_EQ(batch.StepShow(i), push.show[i]);
          CHECK_EQ(batch.click[i], push.click[i]);
          if (batch.references != nullptr) CHECK_EQ(batch.references[i], push.handles[i]);
          for (int d = 0; d < 3; ++d) {
            CHECK_EQ(batch.gradients[3 * i + d], push.gradients[3 * i + d]);
          }
        }
      }
    }
  }
}

TEST(MessagesAreSmall) {
  const TestPush push(1000, 9, WireDtype::kFloat32, true);
  CHECK_EQ(push.Message().size, 64 + 3 * 8 + 1000 * (8 + 4 + 4 + 36));
  const TestPush half(1000, 9, WireDtype::kFloat16, true);
  CHECK_EQ(half.Message().size, 64 + 3 * 8 + 1000 * (8 + 4 + 4 + 18));
  CHECK_EQ(MakePulled(1000, 9, WireDtype::kBfloat16, true).size, 24 + 1000 * (4 + 18));
}

TEST(AFrozenLookupIsPushedAsFrozenRows) {
  for (const int64_t n : {1, 2, 7}) {
    const TestPush push(n, 3, WireDtype::kFloat32, true, 1, /*frozen=*/true);
    Buffer buffer = push.Message();
    PushMessage message;
    CHECK_EQ(ReadPush(buffer.data(), buffer.size, &message), "");
    const DecodedPush decoded(message);
    for (int64_t i = 0; i < n; ++i) {
      CHECK_TRUE(IsFrozen(decoded.batch().StepShow(i)));
      CHECK_EQ(decoded.batch().show[i], push.show[i]);
      CHECK_EQ(decoded.batch().gradients[3 * i + 2], push.gradients[3 * i + 2]);
    }
  }
}

TEST(ExamplesWithCountsThatAreNotFiniteAddWhatIsFinite) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  TestPush push(3, 3, WireDtype::kFloat32, true);
  push.show = {1, kNan, 3};
  push.click = {kNan, 1, 1};
  push.input.show = push.show.data();
  push.input.click = push.click.data();
  Buffer buffer = push.Message();
  PushMessage message;
  CHECK_EQ(ReadPush(buffer.data(), buffer.size, &message), "");
  CHECK_EQ(message.shape.nonfinite_counts, 2u);
  const DecodedPush decoded(message);
  const float show[] = {1, 0, 3}, click[] = {0, 0, 1};
  for (int i = 0; i < 3; ++i) {
    CHECK_EQ(decoded.batch().show[i], show[i]);
    CHECK_EQ(decoded.batch().click[i], click[i]);
  }
}

TEST(CutOffMessagesAreRefused) {
  for (const WireDtype dtype : kDtypes) {
    Buffer push = TestPush(11, 3, dtype, true, 0.5f, true).Message();
    for (int64_t size = 0; size < push.size; ++size) {
      Buffer cut(push.data(), size);
      PushMessage message;
      CHECK_TRUE(IsASentence(ReadPush(cut.data(), size, &message)));
    }
    Buffer pulled = MakePulled(11, 3, dtype, true);
    for (int64_t size = 0; size < pulled.size; ++size) {
      Buffer cut(pulled.data(), size);
      PulledMessage message;
      CHECK_TRUE(IsASentence(ReadPulled(cut.data(), size, &message)));
    }
    PulledMessage message;
    CHECK_TRUE(IsASentence(ReadPulled(push.data(), push.size, &message)));
  }
}

TEST(DamagedMessagesAreRefusedOrReadWithinTheirBounds) {
  std::mt19937_64 random(5);
  int read = 0, refused = 0;
  for (int i = 0; i < 60000; ++i) {
    const WireDtype dtype = kDtypes[random() % 3];
    const bool is_push = i % 2;
    Buffer whole = is_push ? TestPush(1 + random() % 9, 3, dtype, random() % 2,
                                      random() % 2 ? 1 : 0.5f, random() % 2, random() % 3 - 1)
                                 .Message()
                           : MakePulled(1 + random() % 9, 3, dtype, random() % 2);
    Buffer buffer(whole.data(), whole.size);
    const int damages = 1 + random() % 4;
    for (int d = 0; d < damages; ++d) {
      // Mostly in the header and the runs, where sizes are.
      const int64_t sizes_end = std::min<int64_t>(96, buffer.size);
      const int64_t at = random() % (random() % 4 ? sizes_end : buffer.size);
      buffer.data()[at] = static_cast<char>(random() % 3 ? random() : 1 << random() % 8);
    }
    std::string problem;
    if (is_push) {
      PushMessage message;
      problem = ReadPush(buffer.data(), buffer.size, &message);
      if (problem.empty()) Use(message);
    } else {
      PulledMessage message;
      problem = ReadPulled(buffer.data(), buffer.size, &message);
      if (problem.empty()) Use(message);
    }
    ++(problem.empty() ? read : refused);
    if (!problem.empty()) CHECK_TRUE(IsASentence(problem));
  }
  CHECK_GT(read, 1000);
  CHECK_GT(refused, 1000);
}

TEST(RandomBytesAreRefused) {
  std::mt19937_64 random(6);
  for (int i = 0; i < 20000; ++i) {
    const int64_t size = random() % 200;
    std::vector<char> bytes(size);
    for (char& byte : bytes) byte = static_cast<char>(random());
    Buffer buffer(bytes.data(), size);
    PushMessage push;
    CHECK_FALSE(ReadPush(buffer.data(), size, &push).empty());
    PulledMessage pulled;
    CHECK_FALSE(ReadPulled(buffer.data(), size, &pulled).empty());
  }
}

TEST(AMessageThatIsNotAlignedIsRefused) {
  Buffer push = TestPush(3, 3, WireDtype::kFloat32, true).Message();
  std::vector<int64_t> words(push.size / 8 + 1);
  char* moved = reinterpret_cast<char*>(words.data()) + 4;
  std::memcpy(moved, push.data(), push.size);
  PushMessage message;
  CHECK_TRUE(IsASentence(ReadPush(moved, push.size, &message)));
}

TEST(SeveralPushesAreReadOneAfterTheOther) {
  for (const WireDtype dtype : kDtypes) {
    std::vector<int64_t> begins;
    const std::string messages = ThreePushes(dtype, &begins);
    const int64_t bytes = messages.size();
    Buffer buffer(messages.data(), bytes);
    CHECK_EQ(FirstPushBytes(buffer.data(), bytes), begins[1]);
    CHECK_EQ(FirstPushBytes(buffer.data() + begins[1], bytes - begins[1]), begins[2] - begins[1]);
    CHECK_EQ(FirstPushBytes(buffer.data() + begins[2], bytes - begins[2]), bytes - begins[2]);
    std::string problem;
    CHECK_EQ(ReadAll(buffer.data(), bytes, &problem), 3);
    CHECK_EQ(problem, "");
  }
}

TEST(SeveralPushesThatAreCutOffAreRefusedAtTheCut) {
  std::vector<int64_t> begins;
  const std::string messages = ThreePushes(WireDtype::kFloat32, &begins);
  for (int64_t size = 0; size < static_cast<int64_t>(messages.size()); ++size) {
    Buffer cut(messages.data(), size);
    std::string problem;
    CHECK_EQ(ReadAll(cut.data(), size, &problem), (size >= begins[1]) + (size >= begins[2]));
    // What ends where a message ends lacks nothing that a push could say.
    const bool between = size == 0 || size == begins[1] || size == begins[2];
    CHECK_EQ(problem.empty(), between);
    if (!between) CHECK_TRUE(IsASentence(problem));
  }
}

TEST(ADamagedSecondPushIsRefusedAndReadWithinItsBounds) {
  std::vector<int64_t> begins;
  const std::string messages = ThreePushes(WireDtype::kBfloat16, &begins);
  std::string problem;
  const auto with = [&](int64_t at, auto value) {
    Buffer damaged(messages.data(), messages.size());
    std::memcpy(damaged.data() + begins[1] + at, &value, sizeof(value));
    return ReadAll(damaged.data(), damaged.size, &problem);
  };
  CHECK_EQ(with(0, uint32_t{0}), 1);  // the magic
  CHECK_TRUE(IsASentence(problem));
  CHECK_EQ(with(6, uint8_t{9}), 1);  // the dtype
  CHECK_TRUE(IsASentence(problem));
  for (const int64_t n :
       {int64_t{-1}, int64_t{1}, int64_t{1} << 30, int64_t{1} << 31,
        std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()}) {
    CHECK_EQ(with(8, n), 1);
    CHECK_TRUE(IsASentence(problem));
  }
  for (const uint32_t runs : {1u, 1000u, 0xffffffffu}) {
    CHECK_EQ(with(48, runs), 1);
    CHECK_TRUE(IsASentence(problem));
  }
  std::mt19937_64 random(7);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    refused += with(random() % 64, static_cast<char>(random())) < 3;
    if (!problem.empty()) CHECK_TRUE(IsASentence(problem));
  }
  CHECK_GT(refused, 4000);
}

}  // namespace tfps
