#include "ops/kernels/dense_resource.h"

#include <algorithm>
#include <memory>

#include "ops/kernels/dense_values.h"

namespace tfps {
namespace {

using tensorflow::DataTypeString;
using tensorflow::DT_FLOAT;
using tensorflow::DT_INT32;
using tensorflow::DT_INT64;
using tensorflow::Tensor;
using tensorflow::Var;

constexpr int64_t kCyclesPerValue = 2;

// The caller holds the variable's lock.
absl::Status RequireUnchanged(const DenseVariable& variable, size_t index) {
  Var* var = variable.var.get();
  if (var->is_initialized && var->tensor()->dtype() == variable.dtype &&
      var->tensor()->NumElements() == variable.size) {
    return absl::OkStatus();
  }
  return FailedPrecondition(
      "variables[", index, "] held ", variable.size, " elements of ",
      DataTypeString(variable.dtype),
      " when TfpsDense was made and does no more: make another TfpsDense of it.");
}

// Returns the tensor for the variable's new value: its own one, or a new one if that is still read.
// The caller holds the variable's lock exclusively.
absl::Status TensorToWrite(tensorflow::OpKernelContext* ctx, Var* var, Tensor* tensor) {
  if (var->tensor()->RefCountIsOne()) {
    *tensor = *var->tensor();
    return absl::OkStatus();
  }
  tensorflow::AllocatorAttributes attributes;  // as TensorFlow's variable kernels do
  attributes.set_gpu_compatible(true);
  attributes.set_nic_compatible(true);
  return ctx->allocate_temp(var->tensor()->dtype(), var->tensor()->shape(), tensor, attributes);
}

template <typename T>
T* Data(const Tensor& tensor) {
  return static_cast<T*>(tensor.data());
}

}  // namespace

DenseResource::DenseResource(std::vector<DenseVariable> variables)
    : variables_(std::move(variables)) {
  for (DenseVariable& variable : variables_) {
    int64_t& total = variable.dtype == DT_FLOAT ? num_floats_ : num_integers_;
    variable.offset = total;
    total += variable.size;
    in_lock_order_.push_back(variable.var.get());
  }
  std::sort(in_lock_order_.begin(), in_lock_order_.end(),
            [](Var* a, Var* b) { return a->mu() < b->mu(); });
}

std::vector<Var*> DenseResource::Variables() const {
  std::vector<Var*> variables;
  variables.reserve(variables_.size());
  for (const DenseVariable& variable : variables_) variables.push_back(variable.var.get());
  return variables;
}

absl::Status DenseResource::Read(float* floats, int64_t* integers,
                                 const ParallelFor& parallel_for) {
  absl::ReaderMutexLock lock(&mutex_);
  for (size_t i = 0; i < variables_.size(); ++i) {
    const DenseVariable& variable = variables_[i];
    tensorflow::tf_shared_lock variable_lock(*variable.var->mu());
    TF_RETURN_IF_ERROR(RequireUnchanged(variable, i));
    const Tensor& value = *variable.var->tensor();
    const auto copy = [&](const auto* from, auto* to) {
      parallel_for(variable.size, kCyclesPerValue, [from, to](int64_t begin, int64_t end) {
        std::copy(from + begin, from + end, to + begin);
      });
    };
    if (variable.dtype == DT_FLOAT) copy(Data<float>(value), floats + variable.offset);
    if (variable.dtype == DT_INT64) copy(Data<int64_t>(value), integers + variable.offset);
    if (variable.dtype == DT_INT32) copy(Data<int32_t>(value), integers + variable.offset);
  }
  return absl::OkStatus();
}

absl::Status DenseResource::Merge(tensorflow::OpKernelContext* ctx, int64_t ticket, int64_t batch,
                                  int64_t finished_below, const float* floats,
                                  const int64_t* integers, const float* decays,
                                  const ParallelFor& parallel_for) {
  absl::MutexLock lock(&mutex_);
  std::vector<std::unique_ptr<tensorflow::mutex_lock>> variable_locks;
  variable_locks.reserve(in_lock_order_.size());
  for (Var* var : in_lock_order_) {
    variable_locks.push_back(std::make_unique<tensorflow::mutex_lock>(*var->mu()));
  }
  // Everything that can fail comes before the claim.
  std::vector<Tensor> written(variables_.size());
  for (size_t i = 0; i < variables_.size(); ++i) {
    TF_RETURN_IF_ERROR(RequireUnchanged(variables_[i], i));
    TF_RETURN_IF_ERROR(TensorToWrite(ctx, variables_[i].var.get(), &written[i]));
  }
  if (!clock_.Claim(ticket, batch, finished_below)) return absl::OkStatus();
  for (size_t i = 0; i < variables_.size(); ++i) {
    const DenseVariable& variable = variables_[i];
    Tensor& value = *variable.var->tensor();
    const auto add = [&](const auto* before, auto* after) {
      parallel_for(variable.size, kCyclesPerValue,
                   [before, after, part = integers + variable.offset](int64_t begin, int64_t end) {
                     Add(before + begin, part + begin, end - begin, after + begin);
                   });
    };
    const auto decay = [&](const float* before, float* after) {
      parallel_for(variable.size, kCyclesPerValue,
                   [before, after, factor = decays[i], part = floats + variable.offset](
                       int64_t begin, int64_t end) {
                     Decay(before + begin, factor, part + begin, end - begin, after + begin);
                   });
    };
    if (variable.dtype == DT_FLOAT) decay(Data<float>(value), Data<float>(written[i]));
    if (variable.dtype == DT_INT64) add(Data<int64_t>(value), Data<int64_t>(written[i]));
    if (variable.dtype == DT_INT32) add(Data<int32_t>(value), Data<int32_t>(written[i]));
    value = written[i];
  }
  return absl::OkStatus();
}

std::string DenseResource::DebugString() const {
  return "tfps dense weights in " + std::to_string(variables_.size()) + " variables";
}

}  // namespace tfps
