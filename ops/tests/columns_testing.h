// The rows of shards as columns, for tests.
#ifndef OPS_TESTS_COLUMNS_TESTING_H_
#define OPS_TESTS_COLUMNS_TESTING_H_

#include <cstdint>
#include <string>
#include <vector>

#include "ops/core/table.h"

namespace tfps_test {

// The columns of one shard and their memory.
struct Columns {
  std::vector<uint64_t> keys;
  std::vector<int32_t> slots;
  std::vector<double> statistics;
  std::vector<uint16_t> unseen_days, flags;
  std::vector<float> floats;
  tfps::ShardState state;

  tfps::RowColumns pointers() {
    return {keys.data(),        slots.data(), statistics.data(),
            unseen_days.data(), flags.data(), floats.data()};
  }
  tfps::RowColumnsSize size() const {
    return {static_cast<int64_t>(keys.size()), static_cast<int64_t>(floats.size())};
  }
};

inline Columns Read(tfps::Table& table, int shard, tfps::Rows which = tfps::Rows::kAll) {
  Columns columns;
  columns.state = table.ReadRows(shard, which, [&](const tfps::RowColumnsSize& size) {
    columns.keys.resize(size.rows);
    columns.slots.resize(size.rows);
    columns.statistics.resize(3 * size.rows);
    columns.unseen_days.resize(size.rows);
    columns.flags.resize(size.rows);
    columns.floats.resize(size.floats);
    return columns.pointers();
  });
  return columns;
}

inline std::string Write(tfps::Table& table, int shard, Columns columns) {
  return table.WriteRows(shard, columns.pointers(), columns.size(), columns.state).value_or("");
}

}  // namespace tfps_test

#endif  // OPS_TESTS_COLUMNS_TESTING_H_
