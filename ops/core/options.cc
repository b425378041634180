#include "ops/core/options.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <set>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "ops/core/chunk_pool.h"
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
      {prefix + "weight_min", &o->weight_min},
      {prefix + "weight_max", &o->weight_max},
  };
  options->insert(options->end(), added.begin(), added.end());
}

std::vector<Option> AllOptions(TableOptions* o) {
  AccessorOptions* a = &o->accessor;
  std::vector<Option> options = {
      {"mf_dim", &o->mf_dim, 1, 4096},
      {"num_shards", &o->num_shards, 1, 65536},
      {"seed", &o->seed},
      {"mf_init_range", &o->mf_init_range, 0, kLargest},
      {"gradient_scale", &o->gradient_scale},
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

// Each Set returns what the value should have been, if it is not.
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
      number <= option.max) {  // NaN is refused, too.
    *field = number;
    return std::nullopt;
  }
  std::string wanted = std::is_same_v<Number, int> ? "an integer" : "a number";
  if (option.min == -kInfinity) return wanted;
  if (option.max == kLargest)
    return wanted + (option.min < 0 ? " that is finite" : " of at least " + Text(option.min));
  return wanted + " from " + Text(option.min) + " to " + Text(option.max);
}

std::optional<std::string> CheckOptimizer(const std::string& prefix,
                                          const OptimizerOptions& options) {
  if (options.weight_min <= options.weight_max) return std::nullopt;
  return "Table option " + prefix + "weight_min=" + Text(options.weight_min) +
         " must not be above " + prefix + "weight_max=" + Text(options.weight_max) + ".";
}

std::optional<std::string> CheckRowFits(const TableOptions& options) {
  const RowLayout layout = {options.mf_dim, Optimizer(options.lr).StateFloats(1),
                            Optimizer(options.mf).StateFloats(options.mf_dim)};
  const int most = static_cast<int>(ChunkPool::kChunkBytes);
  if (layout.bytes(/*admitted=*/true) <= most) return std::nullopt;
  return "Table option mf_dim=" + std::to_string(options.mf_dim) +
         " is too large: with mf.optimizer's state a row is " + std::to_string(layout.bytes(true)) +
         " bytes, and " + std::to_string(most) + " is the most.";
}

}  // namespace

std::optional<std::string> ParseTableOptions(std::string_view text, TableOptions* options) {
  *options = TableOptions();
  const std::vector<Option> known = AllOptions(options);
  std::set<std::string> given;
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find(';'));
    text.remove_prefix(std::min(pair.size() + 1, text.size()));
    if (pair.empty()) continue;
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos) {
      return "Table option '" + std::string(pair) + "' must be written name=value.";
    }
    const std::string name(pair.substr(0, equals));
    const std::string_view value = pair.substr(equals + 1);
    const Option* option = nullptr;
    for (const Option& candidate : known) {
      if (candidate.name == name) option = &candidate;
    }
    if (option == nullptr)
      return "Unknown table option '" + name + "'; TfpsTable's documentation names them all.";
    if (!given.insert(name).second) return "Table option " + name + " is given twice.";
    const std::optional<std::string> wanted =
        std::visit([&](auto* field) { return Set(*option, value, field); }, option->field);
    if (wanted)
      return "Table option " + name + " must be " + *wanted + ", but is '" + std::string(value) +
             "'.";
  }
  for (auto [prefix, optimizer] :
       {std::pair{"lr.", &options->lr}, std::pair{"mf.", &options->mf}}) {
    const bool rate_given = given.count(std::string(prefix) + "learning_rate") > 0;
    if (optimizer->kind == OptimizerKind::kAdam && !rate_given)
      optimizer->learning_rate = kAdamLearningRate;
    if (auto error = CheckOptimizer(prefix, *optimizer)) return error;
  }
  return CheckRowFits(*options);
}

}  // namespace tfps
