// A table for tests, with pushes and pulls in one line.
#ifndef OPS_TESTS_TABLE_TESTING_H_
#define OPS_TESTS_TABLE_TESTING_H_

#include <memory>
#include <string>
#include <vector>

#include "ops/core/native_table.h"
#include "ops/tests/check.h"

namespace tfps_test {

struct PushedRow {
  uint64_t key;
  float show = 1;
  float click = 0;
  float gradient = 0;  // of every weight
  int32_t slot = 1;
  bool frozen = false;
};

struct FoundRow {
  bool found, admitted, served;
  int slot, unseen_days;
  double show, click, delta_score;
  std::vector<float> floats;
};

class TestedTable {
 public:
  explicit TestedTable(const std::string& options_text,
                       tfps::ParallelFor parallel = tfps::SerialFor,
                       size_t most_bytes = tfps::ChunkPool::kMostBytes)
      : parallel_for_(std::move(parallel)) {
    tfps::TableOptions options;
    CHECK_EQ(tfps::ParseTableOptions(options_text, &options).value_or(""), "");
    table_ = std::make_unique<tfps::NativeTable>(options, most_bytes);
  }

  tfps::Table& operator*() { return *table_; }
  tfps::Table* operator->() { return table_.get(); }

  void Push(const std::vector<PushedRow>& rows) {
    std::vector<float> gradients;
    for (const PushedRow& row : rows) {
      gradients.insert(gradients.end(), table_->row_width(), row.gradient);
    }
    CHECK_EQ(TryPush(rows, gradients), "");
  }

  // Pushes `gradients` row by row; returns the error.
  std::string TryPush(const std::vector<PushedRow>& rows, const std::vector<float>& gradients) {
    std::vector<uint64_t> keys;
    std::vector<int32_t> slots;
    std::vector<float> show, click, step_show;
    bool some_frozen = false;
    for (const PushedRow& row : rows) {
      keys.push_back(row.key);
      slots.push_back(row.slot);
      show.push_back(row.show);
      click.push_back(row.click);
      step_show.push_back(row.frozen ? tfps::kFrozen : row.show);
      some_frozen |= row.frozen;
    }
    const int width = rows.empty() ? 1 : static_cast<int>(gradients.size() / rows.size());
    return table_
        ->Push({static_cast<int64_t>(rows.size()), width, keys.data(), slots.data(), show.data(),
                click.data(), gradients.data(), nullptr, some_frozen ? step_show.data() : nullptr},
               parallel_for_)
        .value_or("");
  }

  std::vector<float> Pull(const std::vector<uint64_t>& keys) const {
    return Pull(keys, table_->row_width());
  }

  std::vector<float> Pull(const std::vector<uint64_t>& keys, int width) const {
    std::vector<float> rows(keys.size() * width, -1);
    table_->Pull(keys.data(), static_cast<int64_t>(keys.size()), rows.data(), width, parallel_for_);
    return rows;
  }

  FoundRow Inspect(uint64_t key) const {
    FoundRow row;
    row.floats.assign(table_->row_floats(), -1);
    double statistics[3];
    table_->Inspect(&key, 1,
                    {&row.found, &row.slot, statistics, &row.unseen_days, &row.admitted,
                     &row.served, row.floats.data()});
    row.show = statistics[0];
    row.click = statistics[1];
    row.delta_score = statistics[2];
    return row;
  }

  int64_t EndOfDay(int64_t day) { return table_->EndOfDay(day, parallel_for_); }

  double Statistic(const std::string& wanted) const {
    for (const auto& [name, value] : table_->Statistics()) {
      if (name == wanted) return value;
    }
    CHECK_EQ(wanted, "a statistic");
    return 0;
  }

 private:
  tfps::ParallelFor parallel_for_;
  std::unique_ptr<tfps::Table> table_;
};

}  // namespace tfps_test

#endif  // OPS_TESTS_TABLE_TESTING_H_
