#include "ops/tfra/library.h"

#include <mutex>
#include <string>

#include "ops/kernels/errors.h"
#include "tensorflow/core/framework/op.h"

namespace tensorflow {

// In TensorFlow's framework library, which has no header for it. Unlike dlopen, it lets Python load
// the same library later and still learn which ops it has.
absl::Status LoadDynamicLibrary(const char* library_filename, void** result, const void** buf,
                                size_t* len);

}  // namespace tensorflow

namespace tfps {
namespace {

std::mutex mutex;
std::string* path = nullptr;  // where Python found the library; null if TFRA is not installed

bool IsLoaded() {
  const tensorflow::OpRegistrationData* unused;
  return tensorflow::OpRegistry::Global()->LookUp(kCuckooTableOp, &unused).ok();
}

}  // namespace

absl::Status LoadTfra() {
  std::lock_guard<std::mutex> lock(mutex);
  if (path == nullptr) {
    return FailedPrecondition(
        "engine='tfra' needs TensorFlow Recommenders Addons, which is not installed for the "
        "process that is to hold the rows: run `pip install --no-deps "
        "tensorflow-recommenders-addons==0.8.1` there, or use engine='native'.");
  }
  if (IsLoaded()) return absl::OkStatus();
  void* handle;
  const void* ops;
  size_t size;
  const absl::Status status = tensorflow::LoadDynamicLibrary(path->c_str(), &handle, &ops, &size);
  if (status.ok() && IsLoaded()) return status;
  return FailedPrecondition(
      "engine='tfra' cannot use the ops of TensorFlow Recommenders Addons in ", *path,
      ", perhaps as they are for another version of TensorFlow: ",
      status.ok() ? "they have no in-memory tables" : status.message(), ".");
}

}  // namespace tfps

// Sets the path of TFRA's op library. Python calls it at most once, when it loads this library.
extern "C" __attribute__((visibility("default"))) void tfps_set_tfra_library(const char* library) {
  std::lock_guard<std::mutex> lock(tfps::mutex);
  tfps::path = new std::string(library);
}
