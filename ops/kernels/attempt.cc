#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ops/kernels/kernel.h"
#include "tensorflow/core/framework/cancellation.h"
#include "tensorflow/core/framework/function.h"

namespace tfps {
namespace {

using tensorflow::AsyncOpKernel;
using tensorflow::CancellationManager;
using tensorflow::DataType;
using tensorflow::FunctionLibraryRuntime;
using tensorflow::NameAttrList;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

class AttemptOp : public AsyncOpKernel {
 public:
  explicit AttemptOp(OpKernelConstruction* ctx) : AsyncOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("f", &function_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("Tout", &output_types_));
  }

  void ComputeAsync(OpKernelContext* ctx, DoneCallback done) override {
    OP_REQUIRES_OK_ASYNC(ctx, Guarded(*this, [&] { return Start(ctx, done); }), done);
  }

 private:
  struct Attempt {
    explicit Attempt(CancellationManager* parent)
        : cancellation(std::make_unique<CancellationManager>(parent)) {}
    std::unique_ptr<CancellationManager> cancellation;
    std::vector<Tensor> results;
  };

  // Starts the function; its end calls `done`. On an error it was not started.
  absl::Status Start(OpKernelContext* ctx, const DoneCallback& done) {
    FunctionLibraryRuntime* library = ctx->function_library();
    if (library == nullptr) return Internal("there is no function library");
    FunctionLibraryRuntime::Handle handle;
    TF_RETURN_IF_ERROR(
        library->Instantiate(function_.name(), tensorflow::AttrSlice(&function_.attr()), &handle));
    std::vector<Tensor> arguments;
    arguments.reserve(ctx->num_inputs());
    for (int i = 0; i < ctx->num_inputs(); ++i) arguments.push_back(ctx->input(i));

    auto attempt = std::make_shared<Attempt>(ctx->cancellation_manager());
    FunctionLibraryRuntime::Options options(ctx->step_id());
    options.step_container = ctx->step_container();
    options.stats_collector = ctx->stats_collector();
    options.runner = ctx->runner();
    options.run_all_kernels_inline = ctx->run_all_kernels_inline();
    // An error cancels what the function runs, but nothing outside of it.
    options.create_rendezvous = true;
    options.cancellation_manager = attempt->cancellation.get();
    library->Run(options, handle, arguments, &attempt->results,
                 [this, ctx, attempt, done](const absl::Status& status) {
                   // A cancelled step is not an error of the function itself.
                   const bool is_cancelled = ctx->cancellation_manager() != nullptr &&
                                             ctx->cancellation_manager()->IsCancelled();
                   if (!status.ok() && is_cancelled) {
                     ctx->SetStatus(status);
                   } else {
                     ctx->SetStatus(
                         Guarded(*this, [&] { return SetOutputs(ctx, status, attempt->results); }));
                   }
                   // The parent cancellation manager may be gone after done().
                   attempt->cancellation.reset();
                   done();
                 });
    return absl::OkStatus();
  }

  absl::Status SetOutputs(OpKernelContext* ctx, const absl::Status& status,
                          const std::vector<Tensor>& results) {
    Tensor *ok, *message;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({}), &ok));
    TF_RETURN_IF_ERROR(ctx->allocate_output(1, TensorShape({}), &message));
    ok->scalar<bool>()() = status.ok();
    message->scalar<tensorflow::tstring>()() = std::string(status.message());
    for (size_t i = 0; i < output_types_.size(); ++i) {
      ctx->set_output(i + 2, status.ok() ? results[i] : Tensor(output_types_[i], TensorShape({0})));
    }
    return absl::OkStatus();
  }

  NameAttrList function_;
  std::vector<DataType> output_types_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsAttempt").Device(tensorflow::DEVICE_CPU), AttemptOp);

}  // namespace
}  // namespace tfps
