// All settings of a table, and their text form "name=value;name=value". Settings that are not named
// keep their defaults.
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

// The gradient of an optimizer step: the mean over the occurrences, or the sum over the batch.
enum class GradientScale { kPerShow, kSum };

// The settings that a slot may override for its rows.
struct PolicyOptions {
  int mf_dim = 8;
  AccessorOptions accessor;
  OptimizerOptions lr;
  OptimizerOptions mf;
};

// The table's own policy holds for every slot that has none in `slots`.
struct TableOptions : PolicyOptions {
  int num_shards = 1024;        // virtual shards, fixed for the life of the table
  uint64_t seed = 0;            // of the initial mf vectors; a negative number is read as its bits
  double mf_init_range = 1e-4;  // mf vectors start uniform in [-mf_init_range, mf_init_range)
  GradientScale gradient_scale = GradientScale::kPerShow;
  double max_rows = 0;   // of the whole table, divided evenly among the shards; 0: no limit
  double max_bytes = 0;  // likewise
  std::map<int32_t, PolicyOptions> slots;  // complete: settings that were not given are the table's
};

// Fills `options` from defaults and text, for example
// "mf_dim=4;accessor.create_threshold=1;slot.7.mf_dim=16;slot.7.mf.optimizer=adam". The order of
// the options does not matter. Returns one sentence that names the option at fault, if
// there is one.
std::optional<std::string> ParseTableOptions(std::string_view text, TableOptions* options);

}  // namespace tfps

#endif  // OPS_CORE_OPTIONS_H_
