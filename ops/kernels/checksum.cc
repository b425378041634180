#include <algorithm>
#include <memory>

#include "ops/kernels/table_resource.h"
#include "tensorflow/core/lib/hash/crc32c.h"
#include "tensorflow/core/lib/io/random_inputstream.h"
#include "tensorflow/core/platform/env.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

constexpr uint64_t kBlockBytes = 1 << 20;

class ChecksumOp : public Kernel {
 public:
  using Kernel::Kernel;

  absl::Status Run(OpKernelContext* ctx) override {
    TF_RETURN_IF_ERROR(RequireShape("path", ctx->input(0), {}));
    const std::string path = ctx->input(0).scalar<tensorflow::tstring>()();
    uint64_t size = 0;
    TF_RETURN_IF_ERROR(ctx->env()->GetFileSize(path, &size));
    std::unique_ptr<tensorflow::RandomAccessFile> file;
    TF_RETURN_IF_ERROR(ctx->env()->NewRandomAccessFile(path, &file));
    tensorflow::io::RandomAccessInputStream stream(file.get());
    tensorflow::tstring block;
    uint32_t checksum = 0;
    for (uint64_t at = 0; at < size; at += kBlockBytes) {
      const auto bytes = static_cast<int64_t>(std::min(size - at, kBlockBytes));
      TF_RETURN_IF_ERROR(stream.ReadNBytes(bytes, &block));
      checksum = tensorflow::crc32c::Extend(checksum, block.data(), block.size());
    }
    Tensor *size_out, *checksum_out;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, {}, &size_out));
    TF_RETURN_IF_ERROR(ctx->allocate_output(1, {}, &checksum_out));
    size_out->scalar<int64_t>()() = static_cast<int64_t>(size);
    checksum_out->scalar<int64_t>()() = checksum;
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsChecksum").Device(tensorflow::DEVICE_CPU), ChecksumOp);

}  // namespace
}  // namespace tfps
