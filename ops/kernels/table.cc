#include "ops/tfra/table.h"

#include <memory>

#include "ops/core/native_table.h"
#include "ops/kernels/table_resource.h"

namespace tfps {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// Creates the table or finds the one of this name, and returns its handle.
class TableOp : public Kernel {
 public:
  explicit TableOp(OpKernelConstruction* ctx) : Kernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("options", &options_text_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("engine", &engine_));
    const auto problem = ParseTableOptions(options_text_, &options_);
    OP_REQUIRES(ctx, !problem, InvalidArgument(*problem));
  }

  absl::Status Run(OpKernelContext* ctx) override {
    tensorflow::ContainerInfo names;
    TF_RETURN_IF_ERROR(
        names.Init(ctx->resource_manager(), def(), /*use_node_name_as_default=*/true));
    TableResource* found = nullptr;
    TF_RETURN_IF_ERROR(names.resource_manager()->LookupOrCreate<TableResource>(
        names.container(), names.name(), &found,
        [&](TableResource** created) { return Create(ctx, created); }));
    const TablePtr table(found);
    if (table->options_text() != options_text_) {
      return InvalidArgument("Table '", names.name(), "' exists with the options '",
                             table->options_text(), "', so it cannot be had with '", options_text_,
                             "': use another name or the same options.");
    }
    if (table->engine() != engine_) {
      return InvalidArgument("Table '", names.name(), "' exists with engine='", table->engine(),
                             "', so it cannot be had with engine='", engine_,
                             "': use another name.");
    }
    Tensor* handle;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({}), &handle));
    handle->scalar<tensorflow::ResourceHandle>()() =
        tensorflow::MakeResourceHandle<TableResource>(ctx, names.container(), names.name());
    return absl::OkStatus();
  }

 private:
  absl::Status Create(OpKernelContext* ctx, TableResource** created) const {
    std::unique_ptr<Table> table;
    if (engine_ == "tfra") {
      TF_RETURN_IF_ERROR(TfraTable::Create(ctx, options_, &table));
    } else {
      table = std::make_unique<NativeTable>(options_);
    }
    *created = new TableResource(engine_, options_text_, std::move(table));
    return absl::OkStatus();
  }

  std::string engine_;
  std::string options_text_;
  TableOptions options_;
};

REGISTER_KERNEL_BUILDER(Name("TfpsTable").Device(tensorflow::DEVICE_CPU), TableOp);

}  // namespace
}  // namespace tfps
