// One request of a worker to a server: pushes, and the keys to pull after them.
//
//   number of keys int64 | bytes of pushes int64 | keys uint64 (n) | push messages, one after the
//   other
#ifndef OPS_CORE_REQUEST_H_
#define OPS_CORE_REQUEST_H_

#include <cstdint>
#include <string>

namespace tfps {

struct Request {
  const uint64_t* keys;
  int64_t n;
  const char* pushes;
  int64_t push_bytes;
};

int64_t RequestBytes(int64_t n, int64_t push_bytes);

void WriteRequest(const Request& request, char* message);

// Returns one sentence that says what is wrong with a request; empty if it is right. `request`
// points into the message, which must be aligned to 8 bytes. Does not check the pushes.
std::string ReadRequest(const char* message, int64_t bytes, Request* request);

}  // namespace tfps

#endif  // OPS_CORE_REQUEST_H_
