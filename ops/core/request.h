// What a worker sends to a server in one go: pushes, and then the keys of what it wants to pull.
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

// What is wrong with a request, in one sentence; empty if nothing. Points into the message, which
// must begin at a multiple of 8 bytes. Whether its pushes are whole is not looked at.
std::string ReadRequest(const char* message, int64_t bytes, Request* request);

}  // namespace tfps

#endif  // OPS_CORE_REQUEST_H_
