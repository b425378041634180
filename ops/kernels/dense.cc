#include <set>

#include "ops/kernels/dense_resource.h"

namespace tfps {
namespace {

using tensorflow::DataTypeString;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

absl::Status FindVariable(OpKernelContext* ctx, int index, DenseVariable* variable) {
  if (ctx->input(index).NumElements() != 1) {
    return InvalidArgument("variables[", index, "] must be one resource handle, not the shape ",
                           ctx->input(index).shape().DebugString(), ".");
  }
  const absl::Status uninitialized = FailedPrecondition(
      "variables[", index, "] is not initialized: initialize it before TfpsDense.");
  const absl::Status found =
      LookupResource(ctx, tensorflow::HandleFromInput(ctx, index), &variable->var);
  if (absl::IsNotFound(found)) return uninitialized;
  TF_RETURN_IF_ERROR(found);
  tensorflow::tf_shared_lock lock(*variable->var->mu());
  if (!variable->var->is_initialized) return uninitialized;
  variable->dtype = variable->var->tensor()->dtype();
  variable->size = variable->var->tensor()->NumElements();
  if (variable->dtype == tensorflow::DT_FLOAT || variable->dtype == tensorflow::DT_INT64 ||
      variable->dtype == tensorflow::DT_INT32) {
    return absl::OkStatus();
  }
  return InvalidArgument(
      "variables[", index, "] is of dtype ", DataTypeString(variable->dtype),
      ", but dense weights must be float32, int64 or int32: leave it out or change its dtype.");
}

// Keeps the variables under this name, or checks that the dense weights of this name hold the same.
class DenseOp : public Kernel {
 public:
  using Kernel::Kernel;

  absl::Status Run(OpKernelContext* ctx) override {
    tensorflow::ContainerInfo names;
    TF_RETURN_IF_ERROR(
        names.Init(ctx->resource_manager(), def(), /*use_node_name_as_default=*/true));
    std::vector<DenseVariable> variables(ctx->num_inputs());
    std::vector<tensorflow::Var*> wanted;
    for (int i = 0; i < ctx->num_inputs(); ++i) {
      TF_RETURN_IF_ERROR(FindVariable(ctx, i, &variables[i]));
      wanted.push_back(variables[i].var.get());
    }
    const std::set<tensorflow::Var*> distinct(wanted.begin(), wanted.end());
    if (distinct.size() != wanted.size()) {
      return InvalidArgument("variables must be different ones, but one of them is given twice.");
    }
    DenseResource* found = nullptr;
    TF_RETURN_IF_ERROR(names.resource_manager()->LookupOrCreate<DenseResource>(
        names.container(), names.name(), &found, [&](DenseResource** created) {
          *created = new DenseResource(std::move(variables));
          return absl::OkStatus();
        }));
    const DensePtr dense(found);
    const std::vector<tensorflow::Var*> held = dense->Variables();
    if (held.size() != wanted.size()) {
      return InvalidArgument("Dense weights '", names.name(), "' exist with ", held.size(),
                             " variables, so they cannot be had with ", wanted.size(),
                             ": use another shared_name or the same variables.");
    }
    if (held != wanted) {
      return InvalidArgument("Dense weights '", names.name(),
                             "' exist with other variables than these: "
                             "use another shared_name or the same variables in the same order.");
    }
    Tensor* handle;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({}), &handle));
    handle->scalar<tensorflow::ResourceHandle>()() =
        tensorflow::MakeResourceHandle<DenseResource>(ctx, names.container(), names.name());
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsDense").Device(tensorflow::DEVICE_CPU), DenseOp);

}  // namespace
}  // namespace tfps
