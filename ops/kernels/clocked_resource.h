// A resource to which workers send batches of tickets, each of which is applied once.
#ifndef OPS_KERNELS_CLOCKED_RESOURCE_H_
#define OPS_KERNELS_CLOCKED_RESOURCE_H_

#include "ops/core/clock.h"
#include "ops/kernels/kernel.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/platform/refcount.h"

namespace tfps {

class ClockedResource : public tensorflow::ResourceBase {
 public:
  virtual Clock& clock() = 0;

  // To be called after a restore: tickets below are finished, and no batch of the others is
  // applied.
  virtual void SetClock(int64_t finished_below) { clock().SetFinishedBelow(finished_below); }
};

// The first input of the op, which is called `name`, must be one handle.
inline absl::Status RequireOneHandle(tensorflow::OpKernelContext* ctx, const char* name) {
  if (ctx->input(0).NumElements() == 1) return absl::OkStatus();
  return InvalidArgument(name, " must be one resource handle, not the shape ",
                         ctx->input(0).shape().DebugString(), ".");
}

// The resource of one type that the op's first input names.
template <typename Resource>
absl::Status FindResource(tensorflow::OpKernelContext* ctx, const char* name,
                          tensorflow::core::RefCountPtr<Resource>* resource) {
  TF_RETURN_IF_ERROR(RequireOneHandle(ctx, name));
  return tensorflow::LookupResource(ctx, tensorflow::HandleFromInput(ctx, 0), resource);
}

// A kernel whose first input is a table or dense weights.
class ClockedKernel : public Kernel {
 public:
  using Kernel::Kernel;

 private:
  absl::Status Run(tensorflow::OpKernelContext* ctx) final {
    TF_RETURN_IF_ERROR(RequireOneHandle(ctx, "table"));
    tensorflow::ResourceBase* found = nullptr;  // of any type: only this overload finds it
    TF_RETURN_IF_ERROR(
        tensorflow::LookupResource(ctx, tensorflow::HandleFromInput(ctx, 0), &found));
    const tensorflow::core::RefCountPtr<tensorflow::ResourceBase> any(found);
    auto* clocked = dynamic_cast<ClockedResource*>(any.get());
    if (clocked == nullptr) {
      return InvalidArgument("table must be a handle of TfpsTable or TfpsDense, not of ",
                             any->DebugString(), ".");
    }
    return Run(ctx, *clocked);
  }

  virtual absl::Status Run(tensorflow::OpKernelContext* ctx, ClockedResource& resource) = 0;
};

}  // namespace tfps

#endif  // OPS_KERNELS_CLOCKED_RESOURCE_H_
