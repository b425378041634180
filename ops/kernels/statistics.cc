#include "ops/kernels/table_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class StatisticsOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr resource;
    OP_REQUIRES_OK(ctx, FindTable(ctx, &resource));
    const auto statistics = resource->table().Statistics();
    const TensorShape shape({static_cast<int64_t>(statistics.size())});
    Tensor *names, *values;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, shape, &names));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, shape, &values));
    for (size_t i = 0; i < statistics.size(); ++i) {
      names->vec<tensorflow::tstring>()(i) = statistics[i].first;
      values->vec<double>()(i) = statistics[i].second;
    }
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsStatistics").Device(tensorflow::DEVICE_CPU), StatisticsOp);

}  // namespace
}  // namespace tfps
