#include <memory>

#include "ops/core/native_table.h"
#include "ops/kernels/table_resource.h"
#include "ops/tfra/table.h"

namespace tfps {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Status;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// Creates the table, or finds the one of this name, and hands out its handle.
class TableOp : public OpKernel {
 public:
  explicit TableOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("options", &options_text_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("engine", &engine_));
    const auto problem = ParseTableOptions(options_text_, &options_);
    OP_REQUIRES(ctx, !problem, tensorflow::errors::InvalidArgument(*problem));
  }

  void Compute(OpKernelContext* ctx) override {
    tensorflow::ContainerInfo names;
    OP_REQUIRES_OK(ctx,
                   names.Init(ctx->resource_manager(), def(), /*use_node_name_as_default=*/true));
    TableResource* found = nullptr;
    OP_REQUIRES_OK(ctx,
                   names.resource_manager()->LookupOrCreate<TableResource>(
                       names.container(), names.name(), &found,
                       [&](TableResource** created) { return Create(ctx, created); }));
    const TablePtr table(found);
    OP_REQUIRES(ctx, table->options_text() == options_text_,
                tensorflow::errors::InvalidArgument(
                    "Table '", names.name(), "' exists with the options '", table->options_text(),
                    "', so it cannot be had with '", options_text_,
                    "': use another name or the same options."));
    OP_REQUIRES(ctx, table->engine() == engine_,
                tensorflow::errors::InvalidArgument(
                    "Table '", names.name(), "' exists with engine='", table->engine(),
                    "', so it cannot be had with engine='", engine_, "': use another name."));
    Tensor* handle;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({}), &handle));
    handle->scalar<tensorflow::ResourceHandle>()() =
        tensorflow::MakeResourceHandle<TableResource>(ctx, names.container(), names.name());
  }

 private:
  Status Create(OpKernelContext* ctx, TableResource** created) const {
    std::unique_ptr<Table> table;
    if (engine_ == "tfra") {
      TF_RETURN_IF_ERROR(TfraTable::Create(ctx, options_, &table));
    } else {
      table = std::make_unique<NativeTable>(options_);
    }
    *created = new TableResource(engine_, options_text_, std::move(table));
    return tensorflow::OkStatus();
  }

  std::string engine_;
  std::string options_text_;
  TableOptions options_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsTable").Device(tensorflow::DEVICE_CPU), TableOp);

}  // namespace
}  // namespace tfps
