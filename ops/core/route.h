// Makes the ids of a batch unique and sorts them by the parameter server that holds them.
#ifndef OPS_CORE_ROUTE_H_
#define OPS_CORE_ROUTE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tfps {

// All slots' ids in one flat vector: slot s holds ids[slot_ends[s - 1] : slot_ends[s]].
struct RouteInput {
  const int64_t* ids;  // (num_ids)
  int64_t num_ids;
  const int64_t* slot_ends;  // (num_slots)
  const int32_t* slot_ids;   // (num_slots)
  int64_t num_slots;
  const int32_t* assignment;  // (num_shards), the server of each virtual shard
  int64_t num_shards;
  int32_t num_servers;
};

// Returns one sentence that says what is wrong with `input`; empty if it is right.
std::string CheckRouteInput(const RouteInput& input);

// The distinct feasigns of a batch, in order of first appearance.
struct Route {
  std::vector<int64_t> keys;
  std::vector<int32_t> slots;         // of the first occurrence
  std::vector<int32_t> servers;       // empty if there is only one server
  std::vector<int64_t> server_sizes;  // (num_servers)
};

// Makes the ids unique. positions[i] becomes the row of ids[i] in the concatenation of the servers'
// keys, and -1 for padding and the reserved keys, which are in no server's keys. `input` must have
// passed CheckRouteInput.
Route MakeRoute(const RouteInput& input, int32_t* positions);

// Writes each server's keys and slots, (server_sizes[server]) each, in order of first appearance.
void WriteByServer(const Route& route, const std::vector<int64_t*>& keys,
                   const std::vector<int32_t*>& slots);

}  // namespace tfps

#endif  // OPS_CORE_ROUTE_H_
