// A resource to which workers send the batches of tickets, each to be applied once.
#ifndef OPS_KERNELS_CLOCKED_RESOURCE_H_
#define OPS_KERNELS_CLOCKED_RESOURCE_H_

#include "ops/core/clock.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/platform/refcount.h"

namespace tfps {

class ClockedResource : public tensorflow::ResourceBase {
 public:
  virtual Clock& clock() = 0;

  // The state was restored: tickets below are finished, and nothing of the others was applied.
  virtual void SetClock(int64_t finished_below) { clock().SetFinishedBelow(finished_below); }
};

using ClockedPtr = tensorflow::core::RefCountPtr<ClockedResource>;

// The op's first input, which is called `name`.
inline tensorflow::Status RequireOneHandle(tensorflow::OpKernelContext* ctx, const char* name) {
  if (ctx->input(0).NumElements() == 1) return tensorflow::OkStatus();
  return tensorflow::errors::InvalidArgument(name, " must be one resource handle, not the shape ",
                                             ctx->input(0).shape().DebugString(), ".");
}

// The resource of the op's first input.
inline tensorflow::Status FindClocked(tensorflow::OpKernelContext* ctx, ClockedPtr* resource) {
  TF_RETURN_IF_ERROR(RequireOneHandle(ctx, "table"));
  tensorflow::ResourceBase* any = nullptr;  // Of any type, as only this overload finds.
  TF_RETURN_IF_ERROR(tensorflow::LookupResource(ctx, tensorflow::HandleFromInput(ctx, 0), &any));
  tensorflow::core::RefCountPtr<tensorflow::ResourceBase> found(any);
  auto* clocked = dynamic_cast<ClockedResource*>(found.get());
  if (clocked == nullptr) {
    return tensorflow::errors::InvalidArgument(
        "table must be a handle of TfpsTable or TfpsDense, not of ", found->DebugString(), ".");
  }
  found.release();
  resource->reset(clocked);
  return tensorflow::OkStatus();
}

}  // namespace tfps

#endif  // OPS_KERNELS_CLOCKED_RESOURCE_H_
