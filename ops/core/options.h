// Everything that makes one table differ from another, and its text form "name=value;name=value".
// What is not named keeps its default.
#ifndef OPS_CORE_OPTIONS_H_
#define OPS_CORE_OPTIONS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "ops/core/accessor.h"
#include "ops/core/optimizer_options.h"

namespace tfps {

// What an optimizer step sees: the mean gradient per occurrence, or the sum over the batch.
enum class GradientScale { kPerShow, kSum };

// What a slot may decide for its rows.
struct PolicyOptions {
  int mf_dim = 8;
  AccessorOptions accessor;
  OptimizerOptions lr;
  OptimizerOptions mf;
};

// The table's own policy holds for every slot that has none in `slots`.
struct TableOptions : PolicyOptions {
  int num_shards = 1024;        // virtual shards, fixed for the life of the table
  uint64_t seed = 0;            // of the initial mf vectors; a negative number is taken by its bits
  double mf_init_range = 1e-4;  // mf vectors start uniform in [-mf_init_range, mf_init_range)
  GradientScale gradient_scale = GradientScale::kPerShow;
  double max_rows = 0;   // of the whole table, each shard its share; 0: any number
  double max_bytes = 0;  // likewise
  std::map<int32_t, PolicyOptions> slots;  // complete: what was not given is the table's
};

// Fills `options` from defaults and text, for example
// "mf_dim=4;accessor.create_threshold=1;slot.7.mf_dim=16;slot.7.mf.optimizer=adam". The order of
// the options does not matter. Returns nothing if all went well, otherwise one sentence that names
// the option at fault.
std::optional<std::string> ParseTableOptions(std::string_view text, TableOptions* options);

}  // namespace tfps

#endif  // OPS_CORE_OPTIONS_H_
