// Errors whose message is joined from pieces. TensorFlow's own functions are deprecated since 2.21.
#ifndef OPS_KERNELS_ERRORS_H_
#define OPS_KERNELS_ERRORS_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tfps {

template <typename... Pieces>
absl::Status DataLoss(const Pieces&... pieces) {
  return absl::DataLossError(absl::StrCat(pieces...));
}

template <typename... Pieces>
absl::Status FailedPrecondition(const Pieces&... pieces) {
  return absl::FailedPreconditionError(absl::StrCat(pieces...));
}

template <typename... Pieces>
absl::Status Internal(const Pieces&... pieces) {
  return absl::InternalError(absl::StrCat(pieces...));
}

template <typename... Pieces>
absl::Status InvalidArgument(const Pieces&... pieces) {
  return absl::InvalidArgumentError(absl::StrCat(pieces...));
}

template <typename... Pieces>
absl::Status NotFound(const Pieces&... pieces) {
  return absl::NotFoundError(absl::StrCat(pieces...));
}

template <typename... Pieces>
absl::Status ResourceExhausted(const Pieces&... pieces) {
  return absl::ResourceExhaustedError(absl::StrCat(pieces...));
}

}  // namespace tfps

#endif  // OPS_KERNELS_ERRORS_H_
