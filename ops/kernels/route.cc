#include "ops/core/route.h"

#include "ops/kernels/bags.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;

class RouteOp : public tensorflow::OpKernel {
 public:
  explicit RouteOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("num_servers", &num_servers_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor &ids = ctx->input(0), &slot_ends = ctx->input(1), &slot_ids = ctx->input(2),
                 &assignment = ctx->input(3);
    OP_REQUIRES_OK(ctx, CheckRank("ids", ids, 1));
    OP_REQUIRES_OK(ctx, CheckRank("slot_ends", slot_ends, 1));
    OP_REQUIRES_OK(ctx, CheckRank("slot_ids", slot_ids, 1));
    OP_REQUIRES_OK(ctx, CheckRank("assignment", assignment, 1));
    OP_REQUIRES(ctx, slot_ids.dim_size(0) == slot_ends.dim_size(0),
                InvalidArgument("slot_ids must have one element per slot_ends, ",
                                slot_ends.dim_size(0), ", not ", slot_ids.dim_size(0), "."));
    const RouteInput input = {ids.flat<int64_t>().data(),
                              ids.dim_size(0),
                              slot_ends.flat<int64_t>().data(),
                              slot_ids.flat<int32_t>().data(),
                              slot_ends.dim_size(0),
                              assignment.flat<int32_t>().data(),
                              assignment.dim_size(0),
                              num_servers_};
    const std::string problem = CheckRouteInput(input);
    OP_REQUIRES(ctx, problem.empty(), InvalidArgument(problem));

    Tensor* positions;
    OP_REQUIRES_OK(ctx, ctx->allocate_output("positions", ids.shape(), &positions));
    const Route route = MakeRoute(input, positions->flat<int32_t>().data());

    OpOutputList keys_list, slots_list;
    OP_REQUIRES_OK(ctx, ctx->output_list("keys", &keys_list));
    OP_REQUIRES_OK(ctx, ctx->output_list("slots", &slots_list));
    std::vector<int64_t*> keys;
    std::vector<int32_t*> slots;
    for (int server = 0; server < num_servers_; ++server) {
      const TensorShape shape({route.server_sizes[server]});
      Tensor* tensor;
      OP_REQUIRES_OK(ctx, keys_list.allocate(server, shape, &tensor));
      keys.push_back(tensor->flat<int64_t>().data());
      OP_REQUIRES_OK(ctx, slots_list.allocate(server, shape, &tensor));
      slots.push_back(tensor->flat<int32_t>().data());
    }
    WriteByServer(route, keys, slots);
  }

 private:
  int num_servers_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsRoute").Device(tensorflow::DEVICE_CPU), RouteOp);

}  // namespace
}  // namespace tfps
