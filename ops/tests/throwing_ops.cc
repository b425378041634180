// An op whose kernel throws, for tests/test_kernel_exceptions.py.
#include <new>
#include <stdexcept>
#include <string>

#include "ops/kernels/kernel.h"
#include "ops/kernels/worker_pool.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;

void Throw(const std::string& what) {
  if (what == "bad_alloc") throw std::bad_alloc();
  if (what == "runtime_error") throw std::runtime_error("a fault");
  throw 1;
}

class ThrowOp : public Kernel {
 public:
  explicit ThrowOp(OpKernelConstruction* ctx) : Kernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("what", &what_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("in_parallel", &in_parallel_));
  }

  absl::Status Run(OpKernelContext* ctx) override {
    if (!in_parallel_) Throw(what_);
    WorkerPool(ctx)(1000, 1'000'000, [&](int64_t, int64_t) { Throw(what_); });
    return absl::OkStatus();
  }

 private:
  std::string what_;
  bool in_parallel_;
};

REGISTER_OP("TfpsThrow")
    .Attr("what: {'bad_alloc', 'runtime_error', 'int'}")
    .Attr("in_parallel: bool")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::NoOutputs);
REGISTER_KERNEL_BUILDER(Name("TfpsThrow").Device(tensorflow::DEVICE_CPU), ThrowOp);

}  // namespace
}  // namespace tfps
