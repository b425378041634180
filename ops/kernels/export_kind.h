// The attribute `which` of the ops that export: "base" or "delta".
#ifndef OPS_KERNELS_EXPORT_KIND_H_
#define OPS_KERNELS_EXPORT_KIND_H_

#include <string>

#include "ops/core/columns.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfps {

inline absl::Status ReadExportKind(tensorflow::OpKernelConstruction* ctx, Export* which) {
  std::string name;
  TF_RETURN_IF_ERROR(ctx->GetAttr("which", &name));
  *which = name == "base" ? Export::kBase : Export::kDelta;
  return absl::OkStatus();
}

}  // namespace tfps

#endif  // OPS_KERNELS_EXPORT_KIND_H_
