#include "ops/core/route.h"

#include "ops/kernels/bags.h"
#include "ops/kernels/kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class RouteOp : public Kernel {
 public:
  explicit RouteOp(OpKernelConstruction* ctx) : Kernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("num_servers", &num_servers_));
  }

  absl::Status Run(OpKernelContext* ctx) override {
    const Tensor &ids = ctx->input(0), &slot_ends = ctx->input(1), &slot_ids = ctx->input(2),
                 &assignment = ctx->input(3);
    TF_RETURN_IF_ERROR(CheckRank("ids", ids, 1));
    TF_RETURN_IF_ERROR(CheckRank("slot_ends", slot_ends, 1));
    TF_RETURN_IF_ERROR(CheckRank("slot_ids", slot_ids, 1));
    TF_RETURN_IF_ERROR(CheckRank("assignment", assignment, 1));
    if (slot_ids.dim_size(0) != slot_ends.dim_size(0)) {
      return InvalidArgument("slot_ids must have one element per slot_ends, ",
                             slot_ends.dim_size(0), ", not ", slot_ids.dim_size(0), ".");
    }
    const RouteInput input = {
        ids.flat<int64_t>().data(),      ids.dim_size(0),       slot_ends.flat<int64_t>().data(),
        slot_ids.flat<int32_t>().data(), slot_ends.dim_size(0), assignment.flat<int32_t>().data(),
        assignment.dim_size(0),          num_servers_};
    const std::string problem = CheckRouteInput(input);
    if (!problem.empty()) return InvalidArgument(problem);

    Tensor* positions;
    TF_RETURN_IF_ERROR(ctx->allocate_output("positions", ids.shape(), &positions));
    const Route route = MakeRoute(input, positions->flat<int32_t>().data());

    OpOutputList keys_list, slots_list;
    TF_RETURN_IF_ERROR(ctx->output_list("keys", &keys_list));
    TF_RETURN_IF_ERROR(ctx->output_list("slots", &slots_list));
    std::vector<int64_t*> keys;
    std::vector<int32_t*> slots;
    for (int server = 0; server < num_servers_; ++server) {
      const TensorShape shape({route.server_sizes[server]});
      Tensor* tensor;
      TF_RETURN_IF_ERROR(keys_list.allocate(server, shape, &tensor));
      keys.push_back(tensor->flat<int64_t>().data());
      TF_RETURN_IF_ERROR(slots_list.allocate(server, shape, &tensor));
      slots.push_back(tensor->flat<int32_t>().data());
    }
    WriteByServer(route, keys, slots);
    return absl::OkStatus();
  }

 private:
  int num_servers_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsRoute").Device(tensorflow::DEVICE_CPU), RouteOp);

}  // namespace
}  // namespace tfps
