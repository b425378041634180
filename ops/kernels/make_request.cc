#include "ops/core/request.h"
#include "ops/kernels/table_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class MakeRequestOp : public Kernel {
 public:
  using Kernel::Kernel;

  absl::Status Run(OpKernelContext* ctx) override {
    const Tensor &keys = ctx->input(0), &pushes = ctx->input(1);
    TF_RETURN_IF_ERROR(RequireKeys(keys));
    TF_RETURN_IF_ERROR(RequireShape("pushes", pushes, {pushes.NumElements()}));
    const Request request = {KeysOf(keys), keys.NumElements(), pushes.tensor_data().data(),
                             pushes.NumElements()};
    Tensor* message;
    const TensorShape shape({RequestBytes(request.n, request.push_bytes)});
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, shape, &message));
    WriteRequest(request, reinterpret_cast<char*>(message->flat<uint8_t>().data()));
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsMakeRequest").Device(tensorflow::DEVICE_CPU), MakeRequestOp);

}  // namespace
}  // namespace tfps
