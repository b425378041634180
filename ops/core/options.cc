#include "ops/core/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "ops/core/arena.h"
#include "ops/core/optimizer.h"
#include "ops/core/row.h"

namespace tfps {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One option: its name, the field it fills, and the values the field may take (for numbers).
struct Option {
  std::string name;
  std::variant<int*, uint64_t*, double*, GradientScale*, OptimizerKind*> field;
  double min = -kInfinity;
  double max = kInfinity;
};

const std::vector<std::pair<std::string_view, GradientScale>> kGradientScales = {
    {"per_show", GradientScale::kPerShow}, {"sum", GradientScale::kSum}};

const std::vector<std::pair<std::string_view, OptimizerKind>> kOptimizers = {
    {"sgd", OptimizerKind::kSgd},
    {"adagrad", OptimizerKind::kAdagrad},
    {"std_adagrad", OptimizerKind::kStdAdagrad},
    {"adam", OptimizerKind::kAdam},
    {"ftrl", OptimizerKind::kFtrl}};

constexpr double kSmallest =
    std::numeric_limits<float>::min();  // of what must be positive as a float
constexpr double kLargest = std::numeric_limits<float>::max();
const double kBelowOne = std::nextafter(1.0f, 0.0f);  // the largest float below 1

void AddOptimizerOptions(const std::string& prefix, OptimizerOptions* o,
                         std::vector<Option>* options) {
  const std::vector<Option> added = {
      {prefix + "optimizer", &o->kind},
      {prefix + "learning_rate", &o->learning_rate, 0, kLargest},
      {prefix + "initial_g2sum", &o->initial_g2sum, kSmallest, kLargest},
      {prefix + "beta1", &o->beta1, 0, kBelowOne},
      {prefix + "beta2", &o->beta2, 0, kBelowOne},
      {prefix + "epsilon", &o->epsilon, kSmallest, kLargest},
      {prefix + "alpha", &o->alpha, kSmallest, kLargest},
      {prefix + "beta", &o->beta, 0, kLargest},
      {prefix + "l1", &o->l1, 0, kLargest},
      {prefix + "l2", &o->l2, 0, kLargest},
      {prefix + "clipnorm", &o->clipnorm, 0, kLargest},
      {prefix + "clipvalue", &o->clipvalue, 0, kLargest},
      {prefix + "weight_min", &o->weight_min},
      {prefix + "weight_max", &o->weight_max},
  };
  options->insert(options->end(), added.begin(), added.end());
}

std::vector<Option> PolicyOptionList(PolicyOptions* o) {
  AccessorOptions* a = &o->accessor;
  std::vector<Option> options = {
      {"mf_dim", &o->mf_dim, 1, 4096},
      {"accessor.nonclk_coeff", &a->nonclk_coeff, -kLargest, kLargest},
      {"accessor.clk_coeff", &a->clk_coeff, -kLargest, kLargest},
      {"accessor.create_threshold", &a->create_threshold},
      {"accessor.base_update_threshold", &a->base_update_threshold},
      {"accessor.delta_update_threshold", &a->delta_update_threshold},
      {"accessor.delta_keep_days", &a->delta_keep_days, 0, 65534},
      {"accessor.delete_threshold", &a->delete_threshold},
      {"accessor.delete_after_unseen_days", &a->delete_after_unseen_days, 0, 65534},
      {"accessor.decay_rate", &a->decay_rate, 0, 1},
  };
  AddOptimizerOptions("lr.", &o->lr, &options);
  AddOptimizerOptions("mf.", &o->mf, &options);
  return options;
}

std::vector<Option> TableOptionList(TableOptions* o) {
  std::vector<Option> options = PolicyOptionList(o);
  options.push_back({"num_shards", &o->num_shards, 1, 65536});
  options.push_back({"seed", &o->seed});
  options.push_back({"mf_init_range", &o->mf_init_range, 0, kLargest});
  options.push_back({"gradient_scale", &o->gradient_scale});
  options.push_back({"max_rows", &o->max_rows, 0, kLargest});
  options.push_back({"max_bytes", &o->max_bytes, 0, kLargest});
  return options;
}

std::string Text(double number) {
  char buffer[32];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof(buffer), number).ptr);
}

template <typename Number>
bool ParseNumber(std::string_view text, Number* number) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, *number);
  return result.ec == std::errc() && result.ptr == end;
}

template <typename Choice>
std::optional<std::string> SetChoice(
    const std::vector<std::pair<std::string_view, Choice>>& choices, std::string_view value,
    Choice* field) {
  std::string names;
  for (const auto& [name, choice] : choices) {
    if (name == value) {
      *field = choice;
      return std::nullopt;
    }
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return "one of " + names;
}

// Each Set returns what the value should be, if it is not.
std::optional<std::string> Set(const Option&, std::string_view value, GradientScale* field) {
  return SetChoice(kGradientScales, value, field);
}

std::optional<std::string> Set(const Option&, std::string_view value, OptimizerKind* field) {
  return SetChoice(kOptimizers, value, field);
}

std::optional<std::string> Set(const Option&, std::string_view value, uint64_t* field) {
  int64_t negative;
  if (ParseNumber(value, field)) return std::nullopt;
  if (!ParseNumber(value, &negative)) return "an integer of 64 bits";
  *field = static_cast<uint64_t>(negative);
  return std::nullopt;
}

template <typename Number>  // int or double
std::optional<std::string> Set(const Option& option, std::string_view value, Number* field) {
  Number number;
  if (ParseNumber(value, &number) && number >= option.min &&
      number <= option.max) {  // NaN is refused as well.
    *field = number;
    return std::nullopt;
  }
  std::string wanted = std::is_same_v<Number, int> ? "an integer" : "a number";
  if (option.min == -kInfinity) return wanted;
  if (option.max == kLargest)
    return wanted + (option.min < 0 ? " that is finite" : " of at least " + Text(option.min));
  return wanted + " from " + Text(option.min) + " to " + Text(option.max);
}

// The options in a text, by name; those of a slot without their prefix.
using GivenOptions = std::map<std::string, std::string_view>;

struct GivenText {
  GivenOptions table;
  std::map<int32_t, GivenOptions> slots;
};

std::string SlotPrefix(int32_t slot) { return "slot." + std::to_string(slot) + "."; }

// Finds the owner of option `name` and removes the prefix from it; null if the prefix names no
// slot.
GivenOptions* OwnerOf(GivenText* given, std::string* name) {
  constexpr std::string_view kSlot = "slot.";
  if (name->compare(0, kSlot.size(), kSlot) != 0) return &given->table;
  const size_t dot = name->find('.', kSlot.size());
  int32_t slot;
  if (dot == std::string::npos ||
      !ParseNumber(std::string_view(*name).substr(kSlot.size(), dot - kSlot.size()), &slot) ||
      slot < 0) {
    return nullptr;
  }
  name->erase(0, dot + 1);
  return &given->slots[slot];
}

std::optional<std::string> Split(std::string_view text, GivenText* given) {
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find(';'));
    text.remove_prefix(std::min(pair.size() + 1, text.size()));
    if (pair.empty()) continue;
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos) {
      return "Table option '" + std::string(pair) + "' must be written name=value.";
    }
    const std::string full_name(pair.substr(0, equals));
    std::string name = full_name;
    GivenOptions* owner = OwnerOf(given, &name);
    if (owner == nullptr) {
      return "Table option '" + full_name + "' must be slot.NUMBER.name, with a number from 0 to " +
             std::to_string(std::numeric_limits<int32_t>::max()) + ".";
    }
    if (!owner->emplace(name, pair.substr(equals + 1)).second) {
      return "Table option " + full_name + " is given twice.";
    }
  }
  return std::nullopt;
}

std::optional<std::string> SetAll(const GivenOptions& given, const std::string& prefix,
                                  const std::vector<Option>& known) {
  for (const auto& [name, value] : given) {
    const auto option = std::find_if(known.begin(), known.end(),
                                     [&name = name](const Option& o) { return o.name == name; });
    if (option == known.end()) {
      return "Unknown table option '" + prefix + name + "'; " +
             (prefix.empty() ? "TfpsTable's documentation names them all."
                             : "a slot may have its own mf_dim, accessor.*, lr.* and mf.*.");
    }
    const std::optional<std::string> wanted = std::visit(
        [&, &value = value](auto* field) { return Set(*option, value, field); }, option->field);
    if (wanted) {
      return "Table option " + prefix + name + " must be " + *wanted + ", but is '" +
             std::string(value) + "'.";
    }
  }
  return std::nullopt;
}

std::optional<std::string> CheckOptimizer(const std::string& prefix,
                                          const OptimizerOptions& options) {
  if (options.weight_min <= options.weight_max) return std::nullopt;
  return "Table option " + prefix + "weight_min=" + Text(options.weight_min) +
         " must not be above " + prefix + "weight_max=" + Text(options.weight_max) + ".";
}

std::optional<std::string> CheckRowFits(const std::string& prefix, const PolicyOptions& options) {
  const RowLayout layout = {options.mf_dim, Optimizer(options.lr, 1).StateFloats(),
                            Optimizer(options.mf, options.mf_dim).StateFloats()};
  const int most = Arena::kMostRowBytes;
  if (layout.bytes(/*admitted=*/true) <= most) return std::nullopt;
  return "Table option " + prefix + "mf_dim=" + std::to_string(options.mf_dim) +
         " is too large: with " + prefix + "mf.optimizer's state a row is " +
         std::to_string(layout.bytes(true)) + " bytes, and " + std::to_string(most) +
         " is the most.";
}

// Sets a learning rate that is in none of `given` to the default of its optimizer, which may be of
// another kind than the table's; then checks what involves several options.
std::optional<std::string> Complete(const std::string& prefix,
                                    const std::vector<const GivenOptions*>& given,
                                    PolicyOptions* policy) {
  for (auto [part, optimizer] : {std::pair{"lr.", &policy->lr}, std::pair{"mf.", &policy->mf}}) {
    const std::string rate = std::string(part) + "learning_rate";
    if (std::none_of(given.begin(), given.end(),
                     [&](const GivenOptions* options) { return options->count(rate) > 0; })) {
      optimizer->learning_rate = optimizer->kind == OptimizerKind::kAdam
                                     ? kAdamLearningRate
                                     : OptimizerOptions().learning_rate;
    }
    if (auto error = CheckOptimizer(prefix + part, *optimizer)) return error;
  }
  return CheckRowFits(prefix, *policy);
}

}  // namespace

std::optional<std::string> ParseTableOptions(std::string_view text, TableOptions* options) {
  *options = TableOptions();
  GivenText given;
  if (auto error = Split(text, &given)) return error;
  if (auto error = SetAll(given.table, "", TableOptionList(options))) return error;
  if (auto error = Complete("", {&given.table}, options)) return error;
  for (const auto& [slot, own] : given.slots) {
    const std::string prefix = SlotPrefix(slot);
    PolicyOptions* policy = &options->slots.emplace(slot, *options).first->second;
    if (auto error = SetAll(own, prefix, PolicyOptionList(policy))) return error;
    if (auto error = Complete(prefix, {&given.table, &own}, policy)) return error;
  }
  return std::nullopt;
}

}  // namespace tfps
