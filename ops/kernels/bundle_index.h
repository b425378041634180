// The index of a tensor bundle: TensorFlow reads its last bytes, which no checksum covers, without looking whether what
// they say can be.
#ifndef OPS_KERNELS_BUNDLE_INDEX_H_
#define OPS_KERNELS_BUNDLE_INDEX_H_

#include <memory>
#include <string>

#include "tensorflow/core/lib/core/coding.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/platform/errors.h"

namespace tfps {

// Format: the footer of a sorted string table, 48 bytes: offset and size of two blocks as varints,
// padding, a magic number (tensorflow/core/lib/io/format.h). A trailer of 5 bytes follows a block.
inline tensorflow::Status CheckBundleIndex(tensorflow::Env* env, const std::string& prefix) {
  constexpr uint64_t kFooterBytes = 48, kTrailerBytes = 5;
  const std::string path = prefix + ".index";
  uint64_t size = 0;
  TF_RETURN_IF_ERROR(env->GetFileSize(path, &size));
  if (size < kFooterBytes) return tensorflow::errors::DataLoss(path, " is cut short.");
  std::unique_ptr<tensorflow::RandomAccessFile> file;
  TF_RETURN_IF_ERROR(env->NewRandomAccessFile(path, &file));
  char scratch[kFooterBytes];
  tensorflow::StringPiece footer;
  TF_RETURN_IF_ERROR(file->Read(size - kFooterBytes, kFooterBytes, &footer, scratch));
  for (int block = 0; block < 2; ++block) {
    uint64_t begin = 0, length = 0;
    const uint64_t end = size - kFooterBytes;
    if (!tensorflow::core::GetVarint64(&footer, &begin) ||
        !tensorflow::core::GetVarint64(&footer, &length) || begin > end || length > end ||
        begin + length + kTrailerBytes > end) {
      return tensorflow::errors::DataLoss(path, " is damaged: its last bytes name no block of it.");
    }
  }
  return tensorflow::OkStatus();
}

}  // namespace tfps

#endif  // OPS_KERNELS_BUNDLE_INDEX_H_
