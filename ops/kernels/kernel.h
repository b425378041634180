// The base of all kernels: an exception becomes an error of the op and never ends the process.
#ifndef OPS_KERNELS_KERNEL_H_
#define OPS_KERNELS_KERNEL_H_

#include <exception>
#include <new>

#include "absl/status/status.h"
#include "ops/kernels/errors.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {

// Calls body(), which returns a status; turns an exception into one.
template <typename Body>
absl::Status Guarded(const tensorflow::OpKernel& kernel, const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(kernel.type_string(),
                             " ran out of memory: give its task more memory or less to do.");
  } catch (const std::exception& exception) {
    return Internal(kernel.type_string(), " failed: ", exception.what());
  } catch (...) {
    return Internal(kernel.type_string(), " failed: unknown exception");
  }
}

class Kernel : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* ctx) final {
    OP_REQUIRES_OK(ctx, Guarded(*this, [&] { return Run(ctx); }));
  }

 private:
  virtual absl::Status Run(tensorflow::OpKernelContext* ctx) = 0;
};

}  // namespace tfps

#endif  // OPS_KERNELS_KERNEL_H_
