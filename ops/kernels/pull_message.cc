#include "ops/core/message.h"

#include <memory>

#include "ops/kernels/messages.h"
#include "ops/kernels/table_resource.h"
#include "ops/kernels/worker_pool.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class PullMessageOp : public OpKernel {
 public:
  explicit PullMessageOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("row_width", &shape_.width));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("references", &shape_.references));
    OP_REQUIRES_OK(ctx, ReadWireDtype(ctx, &shape_.dtype));
  }

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    const Table& table = resource->table();
    const Tensor& keys = ctx->input(1);
    OP_REQUIRES_OK(ctx, RequireKeys(keys));
    OP_REQUIRES_OK(ctx, RequireRowWidth("row_width", shape_.width, table));
    MessageShape shape = shape_;
    shape.n = keys.NumElements();
    shape.version = table.version();
    Tensor* message;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({PulledBytes(shape)}), &message));
    const PulledParts parts = WritePulledHeader(shape, BytesOf(message));
    const int64_t floats = shape.n * shape.width;
    std::unique_ptr<float[]> unrounded;
    float* rows = reinterpret_cast<float*>(parts.rows);
    if (shape.dtype != WireDtype::kFloat32) {
      unrounded.reset(new float[floats]);
      rows = unrounded.get();
    }
    table.Pull(KeysOf(keys), shape.n, rows, shape.width, WorkerPool(ctx), parts.references);
    if (unrounded != nullptr) RoundToNearest(rows, floats, shape.dtype, parts.rows);
  }

 private:
  MessageShape shape_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsPullMessage").Device(tensorflow::DEVICE_CPU), PullMessageOp);

}  // namespace
}  // namespace tfps
