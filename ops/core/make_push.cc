#include "ops/core/make_push.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "ops/core/hash.h"
#include "ops/core/unique_index.h"

namespace tfps {
namespace {

constexpr uint32_t kMostWhole = 65535;  // the largest count in uint16

bool IsWhole(double count) {
  return count >= 0 && count <= kMostWhole && count == std::floor(count);
}

// Show in the lower and click in the upper half.
uint64_t Pack(float show, float click) {
  return static_cast<uint64_t>(click) << 32 | static_cast<uint64_t>(show);
}

// Whether each row, and padding as the first, is in a bag.
std::vector<bool> AreThere(const Bags& bags, int64_t num_rows) {
  std::vector<bool> there(1 + num_rows);
  for (int64_t i = 0; i < bags.num_ids; ++i) there[1 + bags.positions[i]] = true;
  return there;
}

}  // namespace

// The shows and clicks of the rows of a lookup. If those of the examples are small whole numbers
// they are summed in one integer, otherwise in doubles; the sums are the same.
class PushMaker::RowCounts {
 public:
  RowCounts() = default;

  // `packed` holds the examples' counts, none above `most`; it is empty if they are not whole
  // numbers.
  RowCounts(const Bags& bags, int64_t num_rows, const float* show, const float* click,
            const std::vector<uint64_t>& packed, uint32_t most) {
    const bool fits = most * static_cast<uint64_t>(bags.num_ids) >> 32 == 0;
    if (!packed.empty() && fits) {
      packed_.resize(1 + num_rows);  // padding is counted in the first
      ForEachId(bags, [&](int64_t row, int64_t b) { packed_[1 + row] += packed[b]; });
      return;
    }
    sums_.resize(1 + num_rows);
    ForEachId(bags, [&](int64_t row, int64_t b) {
      sums_[1 + row].show += show[b];
      sums_[1 + row].click += click[b];
    });
  }

  void Append(const RowCounts& from, int64_t row) {
    if (sums_.empty()) sums_.emplace_back();
    sums_.push_back({from.show(row), from.click(row)});
  }

  void Add(int64_t to, const RowCounts& from, int64_t row) {
    sums_[1 + to].show += from.show(row);
    sums_[1 + to].click += from.click(row);
  }

  // Whether each of these rows has counts that fit into uint16.
  bool AreWhole(int64_t first, int64_t n) const {
    if (!packed_.empty()) {
      uint64_t all = 0;
      for (int64_t i = 1 + first; i < 1 + first + n; ++i) all |= packed_[i];
      return (all & ~(uint64_t{kMostWhole} << 32 | kMostWhole)) == 0;
    }
    for (int64_t row = first; row < first + n; ++row) {
      if (!IsWhole(show(row)) || !IsWhole(click(row))) return false;
    }
    return true;
  }

  template <typename Number>
  void Write(int64_t first, int64_t n, Number* pairs) const {
    if (!packed_.empty()) {
      const uint64_t* packed = packed_.data() + 1 + first;
      for (int64_t i = 0; i < n; ++i) {
        pairs[2 * i] = static_cast<Number>(packed[i] & UINT32_MAX);
        pairs[2 * i + 1] = static_cast<Number>(packed[i] >> 32);
      }
      return;
    }
    for (int64_t i = 0; i < n; ++i) {
      pairs[2 * i] = static_cast<Number>(show(first + i));
      pairs[2 * i + 1] = static_cast<Number>(click(first + i));
    }
  }

  double show(int64_t row) const {
    return packed_.empty() ? sums_[1 + row].show
                           : static_cast<double>(packed_[1 + row] & UINT32_MAX);
  }

 private:
  struct Sums {
    double show = 0;
    double click = 0;
  };

  // Row -1 is padding.
  template <typename Visit>
  static void ForEachId(const Bags& bags, Visit visit) {
    const int64_t* splits = bags.row_splits;
    for (int64_t s = 0; s < bags.num_slots; ++s) {
      for (int64_t b = 0; b < bags.batch_size; ++b, ++splits) {
        for (int64_t i = splits[0]; i < splits[1]; ++i) visit(bags.positions[i], b);
      }
    }
  }

  double click(int64_t row) const {
    return packed_.empty() ? sums_[1 + row].click : static_cast<double>(packed_[1 + row] >> 32);
  }

  std::vector<uint64_t> packed_;
  std::vector<Sums> sums_;
};

// The merged rows of several lookups for one server.
struct PushMaker::MergedRows {
  std::vector<int64_t> keys;
  std::vector<int32_t> slots;
  std::vector<uint32_t> references;
  std::vector<float> gradients;
  std::vector<double> step_shows;  // empty: shows
  RowCounts counts;
};

// The content of the message to one server.
struct PushMaker::Part {
  PushShape shape;
  std::vector<SlotRun> runs;
  std::vector<ReaderRun> reader_runs;
  const int64_t* keys;
  const uint32_t* references;
  const RowCounts* counts;
  int64_t first_row;              // in counts
  std::vector<float> step_shows;  // empty: shows
  const float* gradients;

  // After this, `runs` and the shape's numbers of runs and counts are right.
  void Finish(const int32_t* slots) {
    for (int64_t begin = 0, end; begin < shape.n; begin = end) {
      end = begin + 1;
      while (end < shape.n && slots[end] == slots[begin]) ++end;
      runs.push_back({slots[begin], static_cast<uint32_t>(end - begin)});
    }
    shape.runs = static_cast<uint32_t>(runs.size());
    shape.references = references != nullptr;
    shape.whole_counts = counts->AreWhole(first_row, shape.n);
    shape.step_show = !step_shows.empty();
  }
};

PushMaker::PushMaker(const MakePushInput& input) : input_(input) {
  for (const PushedLookup& lookup : input.lookups) with_readers_ |= lookup.reader != kOwnSlot;
  ReadCounts();
  CountRows();
  const size_t num_servers = input.lookups.front().parts.size();
  std::vector<int64_t> first_rows(input.lookups.size());
  for (size_t server = 0; server < num_servers; ++server) {
    const bool as_it_is = input.lookups.size() == 1 && !with_readers_;
    parts_.push_back(as_it_is ? OnlyPart(static_cast<int>(server), first_rows[0])
                              : MergedPart(static_cast<int>(server), first_rows));
    parts_.back().shape.dtype = input.dtype;
    parts_.back().shape.step = input.step;
    parts_.back().shape.nonfinite_counts = server == 0 ? nonfinite_counts_ : 0;
    for (size_t l = 0; l < input.lookups.size(); ++l) {
      first_rows[l] += input.lookups[l].parts[server].n;
    }
  }
}

PushMaker::~PushMaker() = default;

void PushMaker::ReadCounts() {
  const int64_t batch_size = input_.lookups.front().bags.batch_size;
  show_.assign(input_.show, input_.show + batch_size);
  click_.assign(input_.click, input_.click + batch_size);
  for (int64_t b = 0; b < batch_size; ++b) {
    if (std::isfinite(show_[b]) && std::isfinite(click_[b])) continue;
    ++nonfinite_counts_;
    click_[b] = 0;
    if (!std::isfinite(show_[b])) show_[b] = 0;
  }
}

void PushMaker::CountRows() {
  const int64_t batch_size = static_cast<int64_t>(show_.size());
  std::vector<uint64_t> packed(batch_size);
  double most = 0;
  for (int64_t b = 0; b < batch_size; ++b) {
    if (!IsWhole(show_[b]) || !IsWhole(click_[b])) {
      packed.clear();
      break;
    }
    packed[b] = Pack(show_[b], click_[b]);
    most = std::max<double>({most, show_[b], click_[b]});
  }
  for (const PushedLookup& lookup : input_.lookups) {
    int64_t num_rows = 0;
    for (const PulledPart& part : lookup.parts) num_rows += part.n;
    counts_.emplace_back(lookup.bags, num_rows, show_.data(), click_.data(), packed,
                         static_cast<uint32_t>(most));
    if (with_readers_) is_there_.push_back(AreThere(lookup.bags, num_rows));
  }
}

PushMaker::Part PushMaker::OnlyPart(int server, int64_t first_row) const {
  const PushedLookup& lookup = input_.lookups.front();
  const PulledPart& pulled = lookup.parts[server];
  Part part = {};
  part.shape.n = pulled.n;
  part.shape.width = lookup.width;
  part.shape.version = pulled.version;
  part.keys = pulled.keys;
  part.references = pulled.references;
  part.counts = &counts_.front();
  part.first_row = first_row;
  if (lookup.frozen) part.step_shows.assign(pulled.n, kFrozen);
  part.gradients = lookup.gradients + first_row * lookup.width;
  part.Finish(pulled.slots);
  return part;
}

// Merges the rows of lookups, one lookup after the other.
class PushMaker::Merger {
 public:
  Merger(int width, bool with_step_shows, MergedRows* rows)
      : width_(width), with_step_shows_(with_step_shows), rows_(*rows) {}

  // The lookups from now on are of another reader, and have at most so many rows.
  void Begin(int64_t most_rows) { index_ = std::make_unique<UniqueIndex>(most_rows); }

  // Adds a lookup's part whose first row in `counts` is `first`. If `is_there` is given, it tells
  // of each row, after the padding, whether it belongs to the lookup.
  void Add(const PushedLookup& lookup, const PulledPart& pulled, const RowCounts& counts,
           int64_t first, const std::vector<bool>* is_there) {
    constexpr int64_t kBlock = 32;  // hashed ahead, to prefetch their entries
    uint64_t hashes[kBlock];
    const float* gradient = lookup.gradients + first * lookup.width;
    for (int64_t i = 0; i < pulled.n; ++i, gradient += lookup.width) {
      if (i % kBlock == 0) {
        for (int64_t j = i; j < std::min(i + kBlock, pulled.n); ++j) {
          hashes[j - i] = SplitMix64(static_cast<uint64_t>(pulled.keys[j]));
          index_->PrefetchFor(hashes[j - i]);
        }
      }
      if (is_there != nullptr && !(*is_there)[1 + first + i]) continue;
      uint32_t& entry = index_->Find(pulled.keys[i], hashes[i % kBlock], rows_.keys);
      if (entry == 0) {
        Append(lookup, pulled, i, gradient);
        rows_.counts.Append(counts, first + i);
        entry = static_cast<uint32_t>(rows_.keys.size());
      } else {
        rows_.counts.Add(entry - 1, counts, first + i);
        if (!lookup.frozen) {
          float* sum = rows_.gradients.data() + int64_t{entry - 1} * width_;
          for (int d = 0; d < lookup.width; ++d) sum[d] += gradient[d];
        }
      }
      if (with_step_shows_ && !lookup.frozen) {
        const double show = counts.show(first + i);
        double& step_show = rows_.step_shows[entry - 1];
        step_show = IsFrozen(step_show) ? show : step_show + show;
      }
    }
  }

 private:
  void Append(const PushedLookup& lookup, const PulledPart& pulled, int64_t i,
              const float* gradient) {
    rows_.keys.push_back(pulled.keys[i]);
    rows_.slots.push_back(pulled.slots[i]);
    rows_.references.push_back(pulled.references == nullptr ? kNoReference : pulled.references[i]);
    if (with_step_shows_) rows_.step_shows.push_back(kFrozen);
    if (!lookup.frozen) {
      rows_.gradients.insert(rows_.gradients.end(), gradient, gradient + lookup.width);
    }
    rows_.gradients.resize(rows_.keys.size() * width_);
  }

  const int width_;
  const bool with_step_shows_;
  MergedRows& rows_;
  std::unique_ptr<UniqueIndex> index_;
};

PushMaker::Part PushMaker::MergedPart(int server, const std::vector<int64_t>& first_rows) {
  int64_t most_rows = 0;
  int width = 0;
  bool references = false, some_frozen = false;
  std::map<int32_t, int64_t, std::greater<>> rows_of;  // by reader, those that count first
  for (const PushedLookup& lookup : input_.lookups) {
    most_rows += lookup.parts[server].n;
    rows_of[lookup.reader] += lookup.parts[server].n;
    width = std::max(width, lookup.width);
    references |= lookup.parts[server].references != nullptr;
    some_frozen |= lookup.frozen;
  }
  merged_.push_back(std::make_unique<MergedRows>());
  MergedRows& rows = *merged_.back();
  rows.gradients.reserve(most_rows * width);
  Part part = {};
  Merger merger(width, some_frozen, &rows);
  for (const auto& [reader, most_rows_of] : rows_of) {
    const size_t first_key = rows.keys.size();
    merger.Begin(most_rows_of);
    for (size_t l = 0; l < input_.lookups.size(); ++l) {
      const PushedLookup& lookup = input_.lookups[l];
      if (lookup.reader != reader) continue;
      merger.Add(lookup, lookup.parts[server], counts_[l], first_rows[l],
                 with_readers_ ? &is_there_[l] : nullptr);
    }
    const auto count = static_cast<uint32_t>(rows.keys.size() - first_key);
    if (with_readers_ && count > 0) part.reader_runs.push_back({reader, count});
  }
  part.shape.n = static_cast<int64_t>(rows.keys.size());
  part.shape.width = width;
  part.shape.version = input_.lookups.front().parts[server].version;
  for (const PushedLookup& lookup : input_.lookups) {
    part.shape.version = std::min(part.shape.version, lookup.parts[server].version);
  }
  part.keys = rows.keys.data();
  part.references = references ? rows.references.data() : nullptr;
  part.counts = &rows.counts;
  part.step_shows.assign(rows.step_shows.begin(), rows.step_shows.end());
  part.gradients = rows.gradients.data();
  part.Finish(rows.slots.data());
  part.shape.reader_runs = static_cast<uint32_t>(part.reader_runs.size());
  return part;
}

int64_t PushMaker::Bytes(int server) const { return PushBytes(parts_[server].shape); }

void PushMaker::Write(int server, char* message) const {
  const Part& part = parts_[server];
  const PushShape& shape = part.shape;
  const PushParts out = WritePushHeader(shape, message);
  std::copy(part.runs.begin(), part.runs.end(), out.runs);
  std::copy(part.reader_runs.begin(), part.reader_runs.end(), out.reader_runs);
  std::copy_n(part.keys, shape.n, out.keys);
  if (shape.references) std::copy_n(part.references, shape.n, out.references);
  if (shape.whole_counts) {
    part.counts->Write(part.first_row, shape.n, out.whole_counts);
  } else {
    part.counts->Write(part.first_row, shape.n, out.counts);
  }
  if (shape.step_show) std::copy(part.step_shows.begin(), part.step_shows.end(), out.step_show);
  const uint64_t seed =
      SplitMix64(SplitMix64(static_cast<uint64_t>(shape.step.ticket)) + shape.step.batch);
  RoundAtRandom(part.gradients, shape.n * shape.width, input_.scale, seed, shape.dtype,
                out.gradients);
}

}  // namespace tfps
