#include "ops/core/request.h"

#include <cstring>

namespace tfps {
namespace {

constexpr int64_t kHeaderBytes = 8;

}  // namespace

int64_t RequestBytes(int64_t n, int64_t push_bytes) { return kHeaderBytes + 8 * n + push_bytes; }

void WriteRequest(const Request& request, char* message) {
  std::memcpy(message, &request.n, kHeaderBytes);
  message += kHeaderBytes;
  if (request.n > 0) std::memcpy(message, request.keys, 8 * request.n);
  message += 8 * request.n;
  if (request.push_bytes > 0) std::memcpy(message, request.pushes, request.push_bytes);
}

std::string ReadRequest(const char* message, int64_t bytes, Request* request) {
  if (reinterpret_cast<uintptr_t>(message) % 8 != 0) {
    return "A request must begin at a multiple of 8 bytes.";
  }
  int64_t n = -1;
  if (bytes >= kHeaderBytes) std::memcpy(&n, message, kHeaderBytes);
  if (n < 0 || n > (bytes - kHeaderBytes) / 8) {
    return "A request of " + std::to_string(bytes) +
           " bytes does not hold the keys that it names; it was cut off on its way.";
  }
  *request = {reinterpret_cast<const uint64_t*>(message + kHeaderBytes), n,
              message + kHeaderBytes + 8 * n, bytes - kHeaderBytes - 8 * n};
  return "";
}

}  // namespace tfps
