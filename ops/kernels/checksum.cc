#include <algorithm>
#include <memory>
#include <vector>

#include "ops/kernels/table_resource.h"
#include "tensorflow/core/lib/hash/crc32c.h"
#include "tensorflow/core/platform/env.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

constexpr uint64_t kBlockBytes = 1 << 20;

class ChecksumOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    OP_REQUIRES_OK(ctx, RequireShape("path", ctx->input(0), {}));
    const std::string path = ctx->input(0).scalar<tensorflow::tstring>()();
    uint64_t size = 0;
    OP_REQUIRES_OK(ctx, ctx->env()->GetFileSize(path, &size));
    std::unique_ptr<tensorflow::RandomAccessFile> file;
    OP_REQUIRES_OK(ctx, ctx->env()->NewRandomAccessFile(path, &file));
    std::vector<char> scratch(std::min(size, kBlockBytes));
    uint32_t checksum = 0;
    for (uint64_t at = 0; at < size; at += kBlockBytes) {
      tensorflow::StringPiece block;
      OP_REQUIRES_OK(ctx,
                     file->Read(at, std::min(size - at, kBlockBytes), &block, scratch.data()));
      checksum = tensorflow::crc32c::Extend(checksum, block.data(), block.size());
    }
    Tensor *size_out, *checksum_out;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {}, &size_out));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, {}, &checksum_out));
    size_out->scalar<int64_t>()() = static_cast<int64_t>(size);
    checksum_out->scalar<int64_t>()() = checksum;
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsChecksum").Device(tensorflow::DEVICE_CPU), ChecksumOp);

}  // namespace
}  // namespace tfps
