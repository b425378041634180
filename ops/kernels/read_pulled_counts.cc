#include <algorithm>
#include <deque>
#include <vector>

#include "ops/core/message.h"
#include "ops/kernels/kernel.h"
#include "ops/kernels/messages.h"

namespace tfps {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class ReadPulledCountsOp : public Kernel {
 public:
  using Kernel::Kernel;

  absl::Status Run(OpKernelContext* ctx) override {
    std::deque<AlignedBytes> bytes;
    std::vector<PulledMessage> messages(ctx->num_inputs());
    int64_t num_rows = 0;
    for (int s = 0; s < ctx->num_inputs(); ++s) {
      bytes.emplace_back(ctx->input(s));
      const std::string problem =
          ReadPulled(bytes.back().data(), bytes.back().size(), &messages[s]);
      if (!problem.empty()) return InvalidArgument(problem);
      if (messages[s].counts == nullptr) {
        return InvalidArgument("A message of pulled rows has no counts: pull with counts.");
      }
      num_rows += messages[s].shape.n;
    }
    Tensor* counts;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({num_rows, 2}), &counts));
    float* out = counts->flat<float>().data();
    for (const PulledMessage& message : messages) {
      out = std::copy_n(message.counts, 2 * message.shape.n, out);
    }
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("TfpsReadPulledCounts").Device(tensorflow::DEVICE_CPU),
                        ReadPulledCountsOp);

}  // namespace
}  // namespace tfps
