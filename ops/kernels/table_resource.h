// A table as a TensorFlow resource, and what all its kernels share: they find the table and check
// inputs. The options of a resource never change: the same name with other options is an error.
#ifndef OPS_KERNELS_TABLE_RESOURCE_H_
#define OPS_KERNELS_TABLE_RESOURCE_H_

#include <memory>
#include <string>
#include <utility>

#include "ops/core/table.h"
#include "ops/kernels/clocked_resource.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/platform/refcount.h"

namespace tfps {

class TableResource : public ClockedResource {
 public:
  TableResource(std::string engine, std::string options_text, std::unique_ptr<Table> table)
      : engine_(std::move(engine)),
        options_text_(std::move(options_text)),
        table_(std::move(table)) {}

  const std::string& engine() const { return engine_; }
  const std::string& options_text() const { return options_text_; }
  Table& table() { return *table_; }
  Clock& clock() override { return table_->clock(); }
  void SetClock(int64_t finished_below) override { table_->SetClock(finished_below); }

  std::string DebugString() const override {
    return "tfps table of engine '" + engine_ + "' with options '" + options_text_ + "'";
  }

 private:
  const std::string engine_;
  const std::string options_text_;
  const std::unique_ptr<Table> table_;
};

using TablePtr = tensorflow::core::RefCountPtr<TableResource>;

// A kernel whose first input is a table.
class TableKernel : public Kernel {
 public:
  using Kernel::Kernel;

 private:
  absl::Status Run(tensorflow::OpKernelContext* ctx) final {
    TablePtr resource;
    TF_RETURN_IF_ERROR(FindResource(ctx, "table", &resource));
    return Run(ctx, resource->table());
  }

  virtual absl::Status Run(tensorflow::OpKernelContext* ctx, Table& table) = 0;
};

inline absl::Status RequireShape(const char* name, const tensorflow::Tensor& tensor,
                                 const tensorflow::TensorShape& shape) {
  if (tensor.shape() == shape) return absl::OkStatus();
  return InvalidArgument(name, " must have the shape ", shape.DebugString(), ", not ",
                         tensor.shape().DebugString(), ".");
}

// Keys must have one dimension, and be few enough for 32-bit positions.
inline absl::Status RequireKeys(const tensorflow::Tensor& keys) {
  if (keys.dims() != 1) {
    return InvalidArgument("keys must have one dimension, not the shape ",
                           keys.shape().DebugString(), ".");
  }
  if (keys.NumElements() > INT32_MAX) {
    return InvalidArgument("keys must be at most 2^31 - 1 in one call, but are ",
                           keys.NumElements(), ".");
  }
  return absl::OkStatus();
}

// An attribute or width that follows from the table's options.
inline absl::Status RequireWidth(const char* name, int64_t value, const char* meaning,
                                 int64_t wanted) {
  if (value == wanted) return absl::OkStatus();
  return InvalidArgument(name, " must be ", wanted, " for this table (", meaning, "), not ", value,
                         ".");
}

// The number of floats of a pulled or pushed row: lr_w and as much of mf_w as the caller wants.
inline absl::Status RequireRowWidth(const char* name, int64_t value, const Table& table) {
  if (2 <= value && value <= table.row_width()) return absl::OkStatus();
  return InvalidArgument(
      name, " must be from 2 to ", table.row_width(),
      " for this table (1 + mf_dim, at most that of the slot with the largest), not ", value, ".");
}

// TensorFlow's int64 keys are the core's uint64 with the same bits.
inline const uint64_t* KeysOf(const tensorflow::Tensor& keys) {
  return reinterpret_cast<const uint64_t*>(keys.flat<int64_t>().data());
}

}  // namespace tfps

#endif  // OPS_KERNELS_TABLE_RESOURCE_H_
