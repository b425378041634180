// TensorFlow Recommenders Addons' (TFRA's) op library, which is loaded into this process when
// the first table needs it.
#ifndef OPS_TFRA_LIBRARY_H_
#define OPS_TFRA_LIBRARY_H_

#include "tensorflow/core/platform/status.h"

namespace tfps {

// The op that makes one of TFRA's tables in memory.
inline constexpr char kCuckooTableOp[] = "TFRA>CuckooHashTableOfTensors";

// Makes sure that TFRA's ops are loaded; returns one sentence if they cannot be.
absl::Status LoadTfra();

}  // namespace tfps

#endif  // OPS_TFRA_LIBRARY_H_
