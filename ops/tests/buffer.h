// Memory exactly as long as a message, so that a sanitizer reports reads beyond it.
#ifndef OPS_TESTS_BUFFER_H_
#define OPS_TESTS_BUFFER_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

namespace tfps_test {

struct Buffer {
  explicit Buffer(int64_t bytes) : words(new int64_t[(bytes + 7) / 8]), size(bytes) {}
  Buffer(const char* from, int64_t bytes) : Buffer(bytes) {
    // An allocation of exactly this size, which malloc aligns.
    exact.reset(new char[bytes]);
    if (bytes > 0) std::memcpy(exact.get(), from, bytes);
  }
  char* data() { return exact ? exact.get() : reinterpret_cast<char*>(words.get()); }

  std::unique_ptr<int64_t[]> words;
  std::unique_ptr<char[]> exact;
  int64_t size;
};

inline bool IsASentence(const std::string& problem) {
  return problem.size() > 20 && problem.back() == '.' && problem.find('\n') == std::string::npos;
}

}  // namespace tfps_test

#endif  // OPS_TESTS_BUFFER_H_
