// The dense weights of one parameter server: the tf.Variables that live there, which are read
// and merged together.
//
// Invariant: reads hold `mutex_` shared and merges hold it exclusively, so that no read sees a part
// of a merge. After it they take each variable's own lock, as TensorFlow's kernels do; several of
// these are taken in the order of their addresses.
#ifndef OPS_KERNELS_DENSE_RESOURCE_H_
#define OPS_KERNELS_DENSE_RESOURCE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "ops/core/clock.h"
#include "ops/core/parallel.h"
#include "ops/kernels/clocked_resource.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/platform/mutex.h"
#include "tensorflow/core/platform/refcount.h"

namespace tfps {

// One float32, int64 or int32 variable. Its dtype and number of elements must not change.
struct DenseVariable {
  tensorflow::core::RefCountPtr<tensorflow::Var> var;
  tensorflow::DataType dtype;
  int64_t size;
  int64_t offset = 0;  // of its part of the floats or of the integers
};

class DenseResource : public ClockedResource {
 public:
  explicit DenseResource(std::vector<DenseVariable> variables);

  std::vector<tensorflow::Var*> Variables() const;
  int num_variables() const { return static_cast<int>(variables_.size()); }
  int64_t num_floats() const { return num_floats_; }      // of all float32 variables
  int64_t num_integers() const { return num_integers_; }  // of all int64 and int32 variables
  Clock& clock() override { return clock_; }

  // Copies all values, in the order of the variables.
  absl::Status Read(float* floats, int64_t* integers, const ParallelFor& parallel_for);

  // If this batch of this ticket is new (see Clock::Claim), a float variable i becomes decays[i] *
  // variable + its part of floats, and an integer variable is increased by its part of integers. On
  // an error no variable changes and the batch is still new.
  absl::Status Merge(tensorflow::OpKernelContext* ctx, int64_t ticket, int64_t batch,
                     int64_t finished_below, const float* floats, const int64_t* integers,
                     const float* decays, const ParallelFor& parallel_for);

  std::string DebugString() const override;

 private:
  std::vector<DenseVariable> variables_;
  std::vector<tensorflow::Var*> in_lock_order_;
  int64_t num_floats_ = 0;
  int64_t num_integers_ = 0;
  absl::Mutex mutex_;
  Clock clock_;
};

using DensePtr = tensorflow::core::RefCountPtr<DenseResource>;

// A kernel whose first input is dense weights.
class DenseKernel : public Kernel {
 public:
  using Kernel::Kernel;

 private:
  absl::Status Run(tensorflow::OpKernelContext* ctx) final {
    DensePtr dense;
    TF_RETURN_IF_ERROR(FindResource(ctx, "dense", &dense));
    return Run(ctx, *dense);
  }

  virtual absl::Status Run(tensorflow::OpKernelContext* ctx, DenseResource& dense) = 0;
};

}  // namespace tfps

#endif  // OPS_KERNELS_DENSE_RESOURCE_H_
