#include "ops/tfra/rows.h"

#include <algorithm>
#include <cstring>

namespace tfps {
namespace {

constexpr int kHeadFloats = sizeof(RowHead) / sizeof(float);

}  // namespace

absl::Status TfraRows::Open(tensorflow::OpKernelContext* ctx) {
  int lr_floats = 0;
  for (const Policy& policy : config_.policies()) {
    lr_floats = std::max(lr_floats, policy.layout.head_floats());
    std::unique_ptr<CuckooTable>& mf = mf_[MfFloats(policy.layout)];
    if (mf != nullptr) continue;
    TF_RETURN_IF_ERROR(CuckooTable::Create(ctx, MfFloats(policy.layout), &mf));
  }
  return CuckooTable::Create(ctx, kHeadFloats + lr_floats, &heads_);
}

void TfraRows::Read(const uint64_t* keys, int64_t n, Part part, RowBuffer* rows) const {
  std::vector<float> values(n * heads_->dim());
  heads_->Find(keys, n, values.data());
  std::map<const CuckooTable*, std::vector<RowHead*>> admitted;
  for (int64_t i = 0; i < n; ++i) {
    RowHead* row = (*rows)[i];
    const float* value = &values[i * heads_->dim()];
    std::memcpy(row, value, sizeof(RowHead));
    if (IsAbsent(row)) continue;
    const Policy& policy = config_.PolicyOf(row);
    std::copy_n(value + kHeadFloats, policy.layout.head_floats(), Floats(row));
    if (part == Part::kAll && IsAdmitted(row)) admitted[&MfTableOf(policy)].push_back(row);
  }
  for (const auto& [table, its_rows] : admitted) {
    std::vector<uint64_t> its_keys;
    for (const RowHead* row : its_rows) its_keys.push_back(row->key);
    values.resize(its_keys.size() * table->dim());
    table->Find(its_keys.data(), its_keys.size(), values.data());
    for (size_t i = 0; i < its_rows.size(); ++i) {
      const int at = config_.PolicyOf(its_rows[i]).layout.mf_w();
      std::copy_n(&values[i * table->dim()], table->dim(), Floats(its_rows[i]) + at);
    }
  }
}

void TfraRows::Write(const std::vector<const RowHead*>& rows, Part part) {
  struct Entries {
    std::vector<uint64_t> keys;
    std::vector<float> values;
  };
  Entries heads;
  std::map<CuckooTable*, Entries> mf;
  heads.values.reserve(rows.size() * heads_->dim());
  for (const RowHead* row : rows) {
    const Policy& policy = config_.PolicyOf(row);
    const RowLayout& layout = policy.layout;
    heads.keys.push_back(row->key);
    const size_t begin = heads.values.size();
    // Padded with zeros if this slot's lr state is shorter.
    heads.values.resize(begin + heads_->dim());
    std::memcpy(&heads.values[begin], row, sizeof(RowHead));
    std::copy_n(Floats(row), layout.head_floats(), &heads.values[begin + kHeadFloats]);
    if (part == Part::kHead || !IsAdmitted(row)) continue;
    Entries& its = mf[&MfTableOf(policy)];
    its.keys.push_back(row->key);
    its.values.insert(its.values.end(), Floats(row) + layout.mf_w(),
                      Floats(row) + layout.admitted_floats());
  }
  // Heads last: when a head says that the row is admitted, its mf part is already there.
  for (const auto& [table, its] : mf) {
    table->Insert(its.keys.data(), its.keys.size(), its.values.data());
  }
  heads_->Insert(heads.keys.data(), heads.keys.size(), heads.values.data());
}

void TfraRows::Remove(const std::vector<const RowHead*>& rows) {
  std::vector<uint64_t> keys;
  std::map<CuckooTable*, std::vector<uint64_t>> mf_keys;
  for (const RowHead* row : rows) {
    keys.push_back(row->key);
    if (IsAdmitted(row)) mf_keys[&MfTableOf(config_.PolicyOf(row))].push_back(row->key);
  }
  heads_->Remove(keys.data(), keys.size());
  for (const auto& [table, its] : mf_keys) table->Remove(its.data(), its.size());
}

}  // namespace tfps
