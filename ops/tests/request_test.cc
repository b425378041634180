#include "ops/core/request.h"

#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ops/tests/buffer.h"
#include "ops/tests/check.h"

namespace tfps {
namespace {

using tfps_test::Buffer;
using tfps_test::IsASentence;

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
constexpr int64_t kLeast = std::numeric_limits<int64_t>::min();

// Keys 7, 14, ..., and bytes that count up from 1.
Buffer MakeRequest(int64_t n, int64_t push_bytes) {
  std::vector<uint64_t> keys;
  for (int64_t i = 1; i <= n; ++i) keys.push_back(7 * i);
  std::string pushes;
  for (int64_t i = 1; i <= push_bytes; ++i) pushes.push_back(static_cast<char>(i));
  Buffer made(RequestBytes(n, push_bytes));
  WriteRequest({keys.data(), n, pushes.data(), push_bytes}, made.data());
  return Buffer(made.data(), made.size);
}

// Puts a number where a request has the `index`-th of its two.
void SetNumber(Buffer* request, int index, int64_t value) {
  std::memcpy(request->data() + 8 * index, &value, sizeof(value));
}

void ExpectRefused(Buffer* request) {
  Request read;
  CHECK_TRUE(IsASentence(ReadRequest(request->data(), request->size, &read)));
}

}  // namespace

TEST(ARequestComesBack) {
  for (const int64_t n : {0, 1, 2, 1000}) {
    for (const int64_t push_bytes : {0, 8, 64, 1000}) {
      Buffer request = MakeRequest(n, push_bytes);
      CHECK_EQ(request.size, 16 + 8 * n + push_bytes);
      Request read;
      CHECK_EQ(ReadRequest(request.data(), request.size, &read), "");
      CHECK_EQ(read.n, n);
      CHECK_EQ(read.push_bytes, push_bytes);
      for (int64_t i = 0; i < n; ++i) CHECK_EQ(read.keys[i], static_cast<uint64_t>(7 * (i + 1)));
      for (int64_t i = 0; i < push_bytes; ++i) {
        CHECK_EQ(read.pushes[i], static_cast<char>(i + 1));
      }
      CHECK_EQ(reinterpret_cast<uintptr_t>(read.keys) % 8, 0u);
      CHECK_EQ(reinterpret_cast<uintptr_t>(read.pushes) % 8, 0u);
    }
  }
}

TEST(ARequestOfNothingNeedsNoMemory) {
  Buffer request(RequestBytes(0, 0));
  WriteRequest({nullptr, 0, nullptr, 0}, request.data());
  Request read;
  CHECK_EQ(ReadRequest(request.data(), request.size, &read), "");
  CHECK_EQ(read.n + read.push_bytes, 0);
  CHECK_TRUE(IsASentence(ReadRequest(nullptr, 0, &read)));
}

TEST(CutOffRequestsAreRefused) {
  for (const int64_t n : {0, 1, 5}) {
    for (const int64_t push_bytes : {0, 1, 56}) {
      Buffer request = MakeRequest(n, push_bytes);
      for (int64_t size = 0; size < request.size; ++size) {
        Buffer cut(request.data(), size);
        ExpectRefused(&cut);
      }
    }
  }
}

TEST(LongerRequestsAreRefused) {
  Buffer request = MakeRequest(3, 8);
  Buffer longer(request.size + 8);
  std::memset(longer.data(), 0, longer.size);
  std::memcpy(longer.data(), request.data(), request.size);
  ExpectRefused(&longer);
}

TEST(NumbersThatCannotBeAreRefused) {
  for (const int64_t number :
       {int64_t{-1}, int64_t{-8}, kLeast, kLeast + 1, int64_t{4}, int64_t{6}, int64_t{1} << 31,
        int64_t{1} << 60, int64_t{1} << 61, (int64_t{1} << 61) + 5, kMost / 8, kMost - 1, kMost}) {
    for (const int index : {0, 1}) {
      Buffer request = MakeRequest(5, 0);
      SetNumber(&request, index, number);
      ExpectRefused(&request);
    }
    // Where the other number makes up for it in arithmetic that wraps.
    Buffer request = MakeRequest(5, 0);
    SetNumber(&request, 0, number);
    SetNumber(&request, 1, static_cast<int64_t>(40 - 8 * static_cast<uint64_t>(number)));
    if (number != 4) ExpectRefused(&request);
  }
}

TEST(RandomBytesAreRefused) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes;
    for (int64_t size = random() % 100; size > 0; --size) bytes.push_back(random() % 256);
    Buffer request(bytes.data(), bytes.size());
    ExpectRefused(&request);
  }
}

TEST(ARequestThatIsNotAlignedIsRefused) {
  Buffer request = MakeRequest(3, 8);
  for (int offset = 1; offset < 8; ++offset) {
    std::vector<int64_t> words(request.size / 8 + 1);
    char* moved = reinterpret_cast<char*>(words.data()) + offset;
    std::memcpy(moved, request.data(), request.size);
    Request read;
    CHECK_TRUE(IsASentence(ReadRequest(moved, request.size, &read)));
  }
}

}  // namespace tfps
