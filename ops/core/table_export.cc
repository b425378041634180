#include <atomic>

#include "ops/core/table.h"

namespace tfps {

std::optional<std::string> Table::Capture(Export which, const AllocateExport& allocate,
                                          std::vector<uint64_t>* removed,
                                          const ParallelFor& parallel_for) const {
  const int64_t cost = CostOfScan();
  std::vector<int64_t> ends(num_shards() + 1);
  parallel_for(num_shards(), cost, [&](int64_t first, int64_t last) {
    for (int64_t s = first; s < last; ++s) ends[s + 1] = shards_[s]->CountExported(which);
  });
  for (int s = 0; s < num_shards(); ++s) ends[s + 1] += ends[s];
  const ExportColumns out = allocate(ends.back());
  if (out.keys == nullptr && ends.back() > 0) return "There is no memory for the rows of an export.";
  std::vector<std::vector<uint64_t>> removed_of(num_shards());
  std::atomic<bool> same{true};
  parallel_for(num_shards(), cost, [&](int64_t first, int64_t last) {
    for (int64_t s = first; s < last; ++s) {
      const int64_t begin = ends[s], rows = ends[s + 1] - begin;
      const ExportColumns part = {out.keys + begin, out.rows + begin * row_width(),
                                  out.delta_scores + begin};
      if (shards_[s]->Capture(which, rows, part, &removed_of[s]) != rows) same = false;
    }
  });
  if (!same) {
    return "The table was pushed to while its rows were captured for an export: export at a "
           "moment when no ticket is running.";
  }
  for (const auto& keys : removed_of) removed->insert(removed->end(), keys.begin(), keys.end());
  return std::nullopt;
}

void Table::Commit(Export which, const uint64_t* keys, const double* delta_scores, int64_t n,
                   const std::vector<uint64_t>& removed, const ParallelFor& parallel_for) {
  std::vector<std::vector<CapturedKey>> captured(num_shards());
  for (int64_t i = 0; i < n; ++i) {
    captured[VirtualShard(keys[i], num_shards())].push_back({keys[i], delta_scores[i]});
  }
  std::vector<std::vector<uint64_t>> removed_of(num_shards());
  for (const uint64_t key : removed) removed_of[VirtualShard(key, num_shards())].push_back(key);
  parallel_for(num_shards(), CostOfScan(), [&](int64_t first, int64_t last) {
    for (int64_t s = first; s < last; ++s) shards_[s]->Commit(which, captured[s], removed_of[s]);
  });
}

}  // namespace tfps
