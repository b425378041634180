#include <memory>

#include "ops/core/message.h"
#include "ops/core/request.h"
#include "ops/kernels/messages.h"
#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class ExchangeOp : public TableKernel {
 public:
  explicit ExchangeOp(OpKernelConstruction* ctx) : TableKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("row_width", &shape_.width));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("references", &shape_.references));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("counts", &shape_.counts));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("accumulate", &accumulate_));
    OP_REQUIRES_OK(ctx, ReadWireDtype(ctx, &shape_.dtype));
  }

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    TF_RETURN_IF_ERROR(RequireRowWidth("row_width", shape_.width, table));
    const AlignedBytes bytes(ctx->input(1));
    Request request;
    const std::string damage = ReadRequest(bytes.data(), bytes.size(), &request);
    if (!damage.empty()) return InvalidArgument(damage);
    TF_RETURN_IF_ERROR(Push(ctx, request, &table));
    return Pull(ctx, request, table);
  }

 private:
  absl::Status Push(OpKernelContext* ctx, const Request& request, Table* table) const {
    const char* const end = request.pushes + request.push_bytes;
    for (const char* at = request.pushes; at < end;) {
      const int64_t bytes = FirstPushBytes(at, end - at);
      PushMessage message;
      const std::string damage = ReadPush(at, bytes, &message);
      if (!damage.empty()) return InvalidArgument(damage);
      TF_RETURN_IF_ERROR(RequireRowWidth("The width of gradients", message.shape.width, *table));
      const Step& step = message.shape.step;
      const auto bad_step = CheckStep(step.ticket, step.batch, step.finished_below);
      if (bad_step) return InvalidArgument(*bad_step);
      const auto problem = table->ApplyMessage(message, accumulate_, WorkerPool(ctx));
      if (problem) return ResourceExhausted(*problem);
      at += bytes;
    }
    return absl::OkStatus();
  }

  absl::Status Pull(OpKernelContext* ctx, const Request& request, const Table& table) const {
    MessageShape shape = shape_;
    shape.n = request.n;
    shape.version = table.version();
    Tensor* reply;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({PulledBytes(shape)}), &reply));
    const PulledParts parts = WritePulledHeader(shape, BytesOf(reply));
    const int64_t floats = shape.n * shape.width;
    std::unique_ptr<float[]> unrounded;
    float* rows = reinterpret_cast<float*>(parts.rows);
    if (shape.dtype != WireDtype::kFloat32) {
      unrounded.reset(new float[floats]);
      rows = unrounded.get();
    }
    table.Pull(request.keys, shape.n, rows, shape.width, WorkerPool(ctx), parts.references);
    if (parts.counts != nullptr) {
      table.PullCounts(request.keys, shape.n, parts.counts, WorkerPool(ctx));
    }
    if (unrounded != nullptr) RoundToNearest(rows, floats, shape.dtype, parts.rows);
    return absl::OkStatus();
  }

  MessageShape shape_;
  bool accumulate_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsExchange").Device(tensorflow::DEVICE_CPU), ExchangeOp);

}  // namespace
}  // namespace tfps
