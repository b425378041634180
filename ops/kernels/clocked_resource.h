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
};

// The resource of the op's first input. While `*resource` lives, `*clock` does.
inline tensorflow::Status FindClock(tensorflow::OpKernelContext* ctx,
                                    tensorflow::core::RefCountPtr<tensorflow::ResourceBase>* resource,
                                    Clock** clock) {
  if (ctx->input(0).NumElements() != 1) {
    return tensorflow::errors::InvalidArgument("table must be one resource handle, not the shape ",
                                               ctx->input(0).shape().DebugString(), ".");
  }
  tensorflow::ResourceBase* found = nullptr;
  TF_RETURN_IF_ERROR(
      tensorflow::LookupResource(ctx, tensorflow::HandleFromInput(ctx, 0), &found));
  resource->reset(found);
  auto* clocked = dynamic_cast<ClockedResource*>(found);
  if (clocked == nullptr) {
    return tensorflow::errors::InvalidArgument(
        "table must be a handle of TfpsTable or TfpsDense, not of ", found->DebugString(), ".");
  }
  *clock = &clocked->clock();
  return tensorflow::OkStatus();
}

}  // namespace tfps

#endif  // OPS_KERNELS_CLOCKED_RESOURCE_H_
