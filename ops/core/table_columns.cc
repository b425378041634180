#include <string>

#include "ops/core/table.h"

namespace tfps {

ShardState Table::ReadRows(int shard, Rows which, const AllocateColumns& allocate) {
  return shards_[shard]->ReadRows(which, allocate);
}

void Table::TouchAll(int shard) { shards_[shard]->TouchAll(); }

std::optional<std::string> Table::WriteRows(int shard, const RowColumns& columns,
                                            const RowColumnsSize& size, const ShardState& state) {
  for (int64_t i = 0; i < size.rows; ++i) {
    const uint64_t key = columns.keys[i];
    if (key == kPadding || IsReserved(key) ||
        static_cast<int>(VirtualShard(key, num_shards())) != shard) {
      return "Key " + std::to_string(static_cast<int64_t>(key)) + " is none of shard " +
             std::to_string(shard) + " of " + std::to_string(num_shards()) + ".";
    }
  }
  return shards_[shard]->WriteRows(columns, size, state);
}

std::optional<std::string> Table::Upsert(const RowColumns& columns, const RowColumnsSize& size) {
  for (int64_t i = 0; i < size.rows; ++i) {
    const uint64_t key = columns.keys[i];
    if (key == kPadding || IsReserved(key)) {
      return "Key " + std::to_string(static_cast<int64_t>(key)) +
             " is padding or reserved: no row can have it.";
    }
  }
  if (auto problem = config_.CheckFloats(columns, size)) return problem;
  const float* floats = columns.floats;
  for (int64_t i = 0; i < size.rows; ++i) {
    if (!ShardOf(columns.keys[i]).Upsert(columns, i, floats)) return kNoRoom;
    floats += config_.FloatsOf(columns, i);
  }
  return std::nullopt;
}

}  // namespace tfps
