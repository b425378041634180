#include "ops/kernels/table_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class StatisticsOp : public TableKernel {
 public:
  using TableKernel::TableKernel;

  absl::Status Run(OpKernelContext* ctx, Table& table) override {
    const auto statistics = table.Statistics();
    const TensorShape shape({static_cast<int64_t>(statistics.size())});
    Tensor *names, *values;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, shape, &names));
    TF_RETURN_IF_ERROR(ctx->allocate_output(1, shape, &values));
    for (size_t i = 0; i < statistics.size(); ++i) {
      names->vec<tensorflow::tstring>()(i) = statistics[i].first;
      values->vec<double>()(i) = statistics[i].second;
    }
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsStatistics").Device(tensorflow::DEVICE_CPU), StatisticsOp);

}  // namespace
}  // namespace tfps
