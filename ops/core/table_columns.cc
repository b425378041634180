#include <string>

#include "ops/core/table.h"

namespace tfps {

int64_t Table::ReadRows(int shard, const AllocateColumns& allocate) const {
  return shards_[shard]->ReadRows(allocate);
}

std::optional<std::string> Table::WriteRows(int shard, const RowColumns& columns,
                                            const RowColumnsSize& size, int64_t finished_day) {
  for (int64_t i = 0; i < size.rows; ++i) {
    const uint64_t key = columns.keys[i];
    if (key == kPadding || IsReserved(key) ||
        static_cast<int>(VirtualShard(key, num_shards())) != shard) {
      return "Key " + std::to_string(static_cast<int64_t>(key)) + " is none of shard " +
             std::to_string(shard) + " of " + std::to_string(num_shards()) + ".";
    }
  }
  return shards_[shard]->WriteRows(columns, size, finished_day);
}

}  // namespace tfps
