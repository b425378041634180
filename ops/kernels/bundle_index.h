// Checks the index of a tensor bundle: no checksum covers its last bytes, and TensorFlow does not
// check whether they are possible.
#ifndef OPS_KERNELS_BUNDLE_INDEX_H_
#define OPS_KERNELS_BUNDLE_INDEX_H_

#include <memory>
#include <string>

#include "ops/kernels/errors.h"
#include "tensorflow/core/lib/core/coding.h"
#include "tensorflow/core/lib/io/random_inputstream.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/platform/tstring.h"

namespace tfps {

// Format: the footer of a sorted string table, 48 bytes: offset and size of two blocks as varints,
// padding, a magic number (tensorflow/core/lib/io/format.h). A trailer of 5 bytes follows a block.
inline absl::Status CheckBundleIndex(tensorflow::Env* env, const std::string& prefix) {
  constexpr uint64_t kFooterBytes = 48, kTrailerBytes = 5;
  const std::string path = prefix + ".index";
  uint64_t size = 0;
  TF_RETURN_IF_ERROR(env->GetFileSize(path, &size));
  if (size < kFooterBytes) return DataLoss(path, " is cut short.");
  std::unique_ptr<tensorflow::RandomAccessFile> file;
  TF_RETURN_IF_ERROR(env->NewRandomAccessFile(path, &file));
  tensorflow::io::RandomAccessInputStream stream(file.get());
  tensorflow::tstring bytes;
  TF_RETURN_IF_ERROR(stream.SkipNBytes(static_cast<int64_t>(size - kFooterBytes)));
  TF_RETURN_IF_ERROR(stream.ReadNBytes(kFooterBytes, &bytes));
  absl::string_view footer = bytes;
  for (int block = 0; block < 2; ++block) {
    uint64_t begin = 0, length = 0;
    const uint64_t end = size - kFooterBytes;
    if (!tensorflow::core::GetVarint64(&footer, &begin) ||
        !tensorflow::core::GetVarint64(&footer, &length) || begin > end || length > end ||
        begin + length + kTrailerBytes > end) {
      return DataLoss(path, " is damaged: its last bytes name no block of it.");
    }
  }
  return absl::OkStatus();
}

}  // namespace tfps

#endif  // OPS_KERNELS_BUNDLE_INDEX_H_
