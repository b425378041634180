#include <set>

#include "ops/kernels/dense_resource.h"

namespace tfps {
namespace {

using tensorflow::DataTypeString;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Status;
using tensorflow::Tensor;
using tensorflow::TensorShape;

Status FindVariable(OpKernelContext* ctx, int index, DenseVariable* variable) {
  if (ctx->input(index).NumElements() != 1) {
    return tensorflow::errors::InvalidArgument(
        "variables[", index, "] must be one resource handle, not the shape ",
        ctx->input(index).shape().DebugString(), ".");
  }
  const Status uninitialized = tensorflow::errors::FailedPrecondition(
      "variables[", index, "] is not initialized: initialize it before TfpsDense.");
  const Status found =
      LookupResource(ctx, tensorflow::HandleFromInput(ctx, index), &variable->var);
  if (tensorflow::errors::IsNotFound(found)) return uninitialized;
  TF_RETURN_IF_ERROR(found);
  tensorflow::tf_shared_lock lock(*variable->var->mu());
  if (!variable->var->is_initialized) return uninitialized;
  variable->dtype = variable->var->tensor()->dtype();
  variable->size = variable->var->tensor()->NumElements();
  if (variable->dtype == tensorflow::DT_FLOAT || variable->dtype == tensorflow::DT_INT64 ||
      variable->dtype == tensorflow::DT_INT32) {
    return tensorflow::OkStatus();
  }
  return tensorflow::errors::InvalidArgument(
      "variables[", index, "] is of dtype ", DataTypeString(variable->dtype),
      ", but dense weights must be float32, int64 or int32: leave it out or change its dtype.");
}

// Holds on to the variables under this name, or finds that who did so before holds the same ones.
class DenseOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    tensorflow::ContainerInfo names;
    OP_REQUIRES_OK(ctx,
                   names.Init(ctx->resource_manager(), def(), /*use_node_name_as_default=*/true));
    std::vector<DenseVariable> variables(ctx->num_inputs());
    std::vector<tensorflow::Var*> wanted;
    for (int i = 0; i < ctx->num_inputs(); ++i) {
      OP_REQUIRES_OK(ctx, FindVariable(ctx, i, &variables[i]));
      wanted.push_back(variables[i].var.get());
    }
    OP_REQUIRES(ctx, std::set<tensorflow::Var*>(wanted.begin(), wanted.end()).size() == wanted.size(),
                tensorflow::errors::InvalidArgument(
                    "variables must be different ones, but one of them is given twice."));
    DenseResource* found = nullptr;
    OP_REQUIRES_OK(ctx, names.resource_manager()->LookupOrCreate<DenseResource>(
                            names.container(), names.name(), &found, [&](DenseResource** created) {
                              *created = new DenseResource(std::move(variables));
                              return tensorflow::OkStatus();
                            }));
    const DensePtr dense(found);
    const std::vector<tensorflow::Var*> held = dense->Variables();
    OP_REQUIRES(ctx, held.size() == wanted.size(),
                tensorflow::errors::InvalidArgument(
                    "Dense weights '", names.name(), "' exist with ", held.size(),
                    " variables, so they cannot be had with ", wanted.size(),
                    ": use another shared_name or the same variables."));
    OP_REQUIRES(ctx, held == wanted,
                tensorflow::errors::InvalidArgument(
                    "Dense weights '", names.name(), "' exist with other variables than these: "
                    "use another shared_name or the same variables in the same order."));
    Tensor* handle;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({}), &handle));
    handle->scalar<tensorflow::ResourceHandle>()() =
        tensorflow::MakeResourceHandle<DenseResource>(ctx, names.container(), names.name());
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsDense").Device(tensorflow::DEVICE_CPU), DenseOp);

}  // namespace
}  // namespace tfps
