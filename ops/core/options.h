// Everything that makes one table differ from another, and its text form "name=value;name=value".
// What is not named keeps its default.
#ifndef OPS_CORE_OPTIONS_H_
#define OPS_CORE_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ops/core/accessor.h"
#include "ops/core/optimizer_options.h"

namespace tfps {

// What an optimizer step sees: the mean gradient per occurrence, or the sum over the batch.
enum class GradientScale { kPerShow, kSum };

struct TableOptions {
  int mf_dim = 8;
  int num_shards = 1024;        // virtual shards, fixed for the life of the table
  uint64_t seed = 0;            // of the initial mf vectors; a negative number is taken by its bits
  double mf_init_range = 1e-4;  // mf vectors start uniform in [-mf_init_range, mf_init_range)
  GradientScale gradient_scale = GradientScale::kPerShow;
  AccessorOptions accessor;
  OptimizerOptions lr;
  OptimizerOptions mf;
};

// Fills `options` from defaults and text, for example
// "mf_dim=4;accessor.create_threshold=1;mf.optimizer=adam". Returns nothing if all went well,
// otherwise one sentence that names the option at fault.
std::optional<std::string> ParseTableOptions(std::string_view text, TableOptions* options);

}  // namespace tfps

#endif  // OPS_CORE_OPTIONS_H_
