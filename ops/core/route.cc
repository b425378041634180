#include "ops/core/route.h"

#include <algorithm>
#include <limits>

#include "ops/core/hash.h"
#include "ops/core/unique_index.h"

namespace tfps {
namespace {

// Turns indices into the distinct keys into rows of the servers' concatenated keys.
void PlaceByServer(const Route& route, int64_t num_ids, int32_t* positions) {
  std::vector<int32_t> next_row(route.server_sizes.size());
  for (size_t s = 1; s < next_row.size(); ++s) {
    next_row[s] = next_row[s - 1] + static_cast<int32_t>(route.server_sizes[s - 1]);
  }
  std::vector<int32_t> rows(route.keys.size());
  for (size_t u = 0; u < rows.size(); ++u) rows[u] = next_row[route.servers[u]]++;
  for (int64_t i = 0; i < num_ids; ++i) {
    if (positions[i] >= 0) positions[i] = rows[positions[i]];
  }
}

}  // namespace

std::string CheckRouteInput(const RouteInput& input) {
  if (input.num_ids > std::numeric_limits<int32_t>::max()) {
    return "ids has " + std::to_string(input.num_ids) +
           " elements, more than the 2147483647 of one step; make the batch smaller.";
  }
  int64_t begin = 0;
  for (int64_t s = 0; s < input.num_slots; ++s) {
    if (input.slot_ends[s] < begin) {
      return "slot_ends[" + std::to_string(s) + "] is " + std::to_string(input.slot_ends[s]) +
             ", less than the slot's begin " + std::to_string(begin) + "; it must not decrease.";
    }
    begin = input.slot_ends[s];
  }
  if (begin != input.num_ids) {
    return "slot_ends must end at the number of ids, " + std::to_string(input.num_ids) +
           ", not at " + std::to_string(begin) + ".";
  }
  if (input.num_servers < 1) {
    return "num_servers must be 1 or more, not " + std::to_string(input.num_servers) + ".";
  }
  if (input.num_shards < 1 || input.num_shards > std::numeric_limits<uint32_t>::max()) {
    return "assignment must hold the server of each virtual shard, but it has " +
           std::to_string(input.num_shards) + " elements.";
  }
  for (int64_t shard = 0; shard < input.num_shards; ++shard) {
    if (input.assignment[shard] < 0 || input.assignment[shard] >= input.num_servers) {
      return "assignment[" + std::to_string(shard) + "] is " +
             std::to_string(input.assignment[shard]) + "; it must be in [0, " +
             std::to_string(input.num_servers) + "), the number of servers.";
    }
  }
  return "";
}

Route MakeRoute(const RouteInput& input, int32_t* positions) {
  constexpr int64_t kBlock = 32;  // Hashed ahead, to prefetch their entries.
  Route route;
  route.server_sizes.resize(input.num_servers);
  const bool many_servers = input.num_servers > 1;
  const uint32_t num_shards = static_cast<uint32_t>(input.num_shards);
  UniqueIndex index(input.num_ids);
  uint64_t hashes[kBlock];
  int64_t begin = 0;
  for (int64_t s = 0; s < input.num_slots; ++s) {
    for (int64_t end; begin < input.slot_ends[s]; begin = end) {
      end = std::min(begin + kBlock, input.slot_ends[s]);
      for (int64_t i = begin; i < end; ++i) {
        hashes[i - begin] = SplitMix64(static_cast<uint64_t>(input.ids[i]));
        index.PrefetchFor(hashes[i - begin]);
      }
      for (int64_t i = begin; i < end; ++i) {
        const int64_t key = input.ids[i];
        if (static_cast<uint64_t>(key) == kPadding || IsReserved(static_cast<uint64_t>(key))) {
          positions[i] = -1;
          continue;
        }
        const uint64_t hash = hashes[i - begin];
        uint32_t& entry = index.Find(key, hash, route.keys);
        if (entry == 0) {
          route.keys.push_back(key);
          route.slots.push_back(input.slot_ids[s]);
          if (many_servers) {
            const int32_t server = input.assignment[VirtualShardOfHash(hash, num_shards)];
            route.servers.push_back(server);
            ++route.server_sizes[server];
          }
          entry = static_cast<uint32_t>(route.keys.size());
        }
        positions[i] = static_cast<int32_t>(entry - 1);
      }
    }
  }
  if (many_servers) {
    PlaceByServer(route, input.num_ids, positions);
  } else {
    route.server_sizes[0] = static_cast<int64_t>(route.keys.size());
  }
  return route;
}

void WriteByServer(const Route& route, const std::vector<int64_t*>& keys,
                   const std::vector<int32_t*>& slots) {
  if (route.server_sizes.size() == 1) {
    std::copy(route.keys.begin(), route.keys.end(), keys[0]);
    std::copy(route.slots.begin(), route.slots.end(), slots[0]);
    return;
  }
  std::vector<int64_t> next(route.server_sizes.size());
  for (size_t u = 0; u < route.keys.size(); ++u) {
    const int32_t server = route.servers[u];
    keys[server][next[server]] = route.keys[u];
    slots[server][next[server]] = route.slots[u];
    ++next[server];
  }
}

}  // namespace tfps
