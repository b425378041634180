#include <deque>

#include "ops/core/message.h"
#include "ops/kernels/kernel.h"
#include "ops/kernels/messages.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class ReadPulledOp : public Kernel {
 public:
  explicit ReadPulledOp(OpKernelConstruction* ctx) : Kernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("row_width", &row_width_));
  }

  absl::Status Run(OpKernelContext* ctx) override {
    std::deque<AlignedBytes> bytes;
    std::vector<PulledMessage> messages(ctx->num_inputs());
    int64_t num_rows = 0;
    for (int s = 0; s < ctx->num_inputs(); ++s) {
      bytes.emplace_back(ctx->input(s));
      const std::string problem =
          ReadPulled(bytes.back().data(), bytes.back().size(), &messages[s]);
      if (!problem.empty()) return InvalidArgument(problem);
      if (messages[s].shape.width != row_width_) {
        return InvalidArgument("row_width must be that of the pull, ", messages[s].shape.width,
                               ", not ", row_width_, ".");
      }
      num_rows += messages[s].shape.n;
    }
    Tensor* rows;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({num_rows, row_width_}), &rows));
    float* out = rows->flat<float>().data();
    for (const PulledMessage& message : messages) {
      const int64_t floats = message.shape.n * row_width_;
      ReadWire(message.rows, floats, message.shape.dtype, out);
      out += floats;
    }
    return absl::OkStatus();
  }

 private:
  int row_width_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsReadPulled").Device(tensorflow::DEVICE_CPU), ReadPulledOp);

}  // namespace
}  // namespace tfps
