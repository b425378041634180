#include "ops/core/make_push.h"

#include <deque>
#include <string>
#include <vector>

#include "ops/kernels/bags.h"
#include "ops/kernels/kernel.h"
#include "ops/kernels/messages.h"

namespace tfps {
namespace {

using tensorflow::OpInputList;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::Tensor;
using tensorflow::TensorShape;

constexpr int64_t kMostWidth = UINT16_MAX;

class MakePushOp : public Kernel {
 public:
  explicit MakePushOp(OpKernelConstruction* ctx) : Kernel(ctx) {
    int parts;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("N", &parts));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("num_lookups", &num_lookups_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("num_servers", &num_servers_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("readers", &readers_));
    OP_REQUIRES_OK(ctx, ReadWireDtype(ctx, &dtype_));
    OP_REQUIRES(ctx, parts == num_lookups_ * num_servers_,
                InvalidArgument("keys, slots and pulled must have one tensor for each lookup and "
                                "server, ",
                                num_lookups_, " * ", num_servers_, ", not ", parts, "."));
    OP_REQUIRES(ctx, readers_.empty() || readers_.size() == static_cast<size_t>(num_lookups_),
                InvalidArgument("readers must be empty or have one element per lookup, ",
                                num_lookups_, ", not ", readers_.size(), "."));
  }

  absl::Status Run(OpKernelContext* ctx) override {
    const Tensor *show, *click;
    TF_RETURN_IF_ERROR(ctx->input("show", &show));
    TF_RETURN_IF_ERROR(ctx->input("click", &click));
    TF_RETURN_IF_ERROR(CheckRank("show", *show, 1));
    TF_RETURN_IF_ERROR(CheckRank("click", *click, 1));
    if (show->dim_size(0) != click->dim_size(0)) {
      return InvalidArgument("show and click must have one element per example, but they have ",
                             show->dim_size(0), " and ", click->dim_size(0), ".");
    }
    MakePushInput input;
    std::deque<AlignedBytes> pulled;
    TF_RETURN_IF_ERROR(ReadLookups(ctx, show->dim_size(0), &input.lookups, &pulled));
    input.show = show->flat<float>().data();
    input.click = click->flat<float>().data();
    input.dtype = dtype_;
    TF_RETURN_IF_ERROR(ReadScaleAndStep(ctx, &input));

    const PushMaker maker(input);
    OpOutputList messages;
    TF_RETURN_IF_ERROR(ctx->output_list("messages", &messages));
    for (int server = 0; server < num_servers_; ++server) {
      Tensor* message;
      TF_RETURN_IF_ERROR(messages.allocate(server, TensorShape({maker.Bytes(server)}), &message));
      maker.Write(server, BytesOf(message));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status ReadScaleAndStep(OpKernelContext* ctx, MakePushInput* input) const {
    const Tensor *scale, *step;
    TF_RETURN_IF_ERROR(ctx->input("scale", &scale));
    TF_RETURN_IF_ERROR(ctx->input("step", &step));
    TF_RETURN_IF_ERROR(CheckRank("scale", *scale, 0));
    if (step->shape() != TensorShape({3})) {
      return InvalidArgument("step must be (ticket, batch, finished_below), not of the shape ",
                             step->shape().DebugString(), ".");
    }
    input->scale = scale->scalar<float>()();
    const auto numbers = step->vec<int64_t>();
    input->step = {numbers(0), numbers(1), numbers(2)};
    return absl::OkStatus();
  }

  // `bytes` owns the memory that the lookups point to.
  absl::Status ReadLookups(OpKernelContext* ctx, int64_t batch_size,
                           std::vector<PushedLookup>* lookups,
                           std::deque<AlignedBytes>* bytes) const {
    OpInputList keys, slots, pulled, positions, row_splits, gradients;
    const Tensor* frozen;
    TF_RETURN_IF_ERROR(ctx->input_list("keys", &keys));
    TF_RETURN_IF_ERROR(ctx->input_list("slots", &slots));
    TF_RETURN_IF_ERROR(ctx->input_list("pulled", &pulled));
    TF_RETURN_IF_ERROR(ctx->input_list("positions", &positions));
    TF_RETURN_IF_ERROR(ctx->input_list("row_splits", &row_splits));
    TF_RETURN_IF_ERROR(ctx->input_list("gradients", &gradients));
    TF_RETURN_IF_ERROR(ctx->input("frozen", &frozen));
    if (frozen->shape() != TensorShape({num_lookups_})) {
      return InvalidArgument("frozen must have one element per lookup, ", num_lookups_,
                             ", not the shape ", frozen->shape().DebugString(), ".");
    }
    for (int l = 0; l < num_lookups_; ++l) {
      PushedLookup lookup;
      int64_t num_rows = 0;
      for (int server = 0; server < num_servers_; ++server) {
        const int i = l * num_servers_ + server;
        bytes->emplace_back(pulled[i]);
        PulledPart part;
        TF_RETURN_IF_ERROR(ReadPart(keys[i], slots[i], bytes->back(), &part));
        lookup.parts.push_back(part);
        num_rows += part.n;
      }
      TF_RETURN_IF_ERROR(
          ReadBags(positions[l], row_splits[l], -1, batch_size, num_rows, &lookup.bags));
      TF_RETURN_IF_ERROR(CheckRank("gradients", gradients[l], 2));
      const int64_t width = gradients[l].dim_size(1);
      if (gradients[l].dim_size(0) != num_rows || width < 2 || width > kMostWidth) {
        return InvalidArgument("gradients must have one row of 2 to ", kMostWidth,
                               " floats per key, ", num_rows, " rows, not the shape ",
                               gradients[l].shape().DebugString(), ".");
      }
      lookup.gradients = gradients[l].flat<float>().data();
      lookup.width = static_cast<int>(width);
      lookup.frozen = frozen->vec<bool>()(l);
      if (!readers_.empty()) lookup.reader = readers_[l];
      lookups->push_back(std::move(lookup));
    }
    return absl::OkStatus();
  }

  static absl::Status ReadPart(const Tensor& keys, const Tensor& slots, const AlignedBytes& bytes,
                               PulledPart* part) {
    TF_RETURN_IF_ERROR(CheckRank("keys", keys, 1));
    TF_RETURN_IF_ERROR(CheckRank("slots", slots, 1));
    PulledMessage pulled;
    const std::string problem = ReadPulled(bytes.data(), bytes.size(), &pulled);
    if (!problem.empty()) return InvalidArgument(problem);
    if (slots.dim_size(0) != keys.dim_size(0) || pulled.shape.n != keys.dim_size(0)) {
      return InvalidArgument("slots and pulled must have one row per key, ", keys.dim_size(0),
                             ", not ", slots.dim_size(0), " and ", pulled.shape.n, ".");
    }
    *part = {keys.dim_size(0), keys.flat<int64_t>().data(), slots.flat<int32_t>().data(),
             pulled.references, pulled.shape.version};
    return absl::OkStatus();
  }

  int num_lookups_;
  int num_servers_;
  std::vector<int32_t> readers_;
  WireDtype dtype_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsMakePush").Device(tensorflow::DEVICE_CPU), MakePushOp);

}  // namespace
}  // namespace tfps
