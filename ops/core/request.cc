#include "ops/core/request.h"

#include <cstring>

namespace tfps {
namespace {

struct RequestHeader {
  int64_t n;
  int64_t push_bytes;
};
static_assert(sizeof(RequestHeader) == 16, "a header has no holes");

}  // namespace

int64_t RequestBytes(int64_t n, int64_t push_bytes) {
  return sizeof(RequestHeader) + 8 * n + push_bytes;
}

void WriteRequest(const Request& request, char* message) {
  const RequestHeader header = {request.n, request.push_bytes};
  std::memcpy(message, &header, sizeof(header));
  message += sizeof(header);
  if (request.n > 0) std::memcpy(message, request.keys, 8 * request.n);
  message += 8 * request.n;
  if (request.push_bytes > 0) std::memcpy(message, request.pushes, request.push_bytes);
}

std::string ReadRequest(const char* message, int64_t bytes, Request* request) {
  if (reinterpret_cast<uintptr_t>(message) % 8 != 0) {
    return "A request must begin at a multiple of 8 bytes.";
  }
  RequestHeader header = {-1, -1};
  const int64_t rest = bytes - static_cast<int64_t>(sizeof(header));
  if (rest >= 0) std::memcpy(&header, message, sizeof(header));
  // No product or sum overflows.
  if (header.n < 0 || header.n > rest / 8 || header.push_bytes != rest - 8 * header.n) {
    return "A request of " + std::to_string(bytes) +
           " bytes does not hold the keys and pushes that it names; it was cut off on its way.";
  }
  const char* const keys = message + sizeof(header);
  *request = {reinterpret_cast<const uint64_t*>(keys), header.n, keys + 8 * header.n,
              header.push_bytes};
  return "";
}

}  // namespace tfps
