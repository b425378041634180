#include "ops/core/route.h"

#include <map>
#include <random>
#include <set>

#include "ops/core/hash.h"
#include "ops/tests/check.h"

namespace tfps {
namespace {

// A batch, and what routing it gives: one vector per server.
struct Case {
  std::vector<int64_t> ids;
  std::vector<int64_t> slot_ends;
  std::vector<int32_t> slot_ids;
  std::vector<int32_t> assignment = {0};
  int32_t num_servers = 1;

  std::vector<std::vector<int64_t>> keys;
  std::vector<std::vector<int32_t>> slots;
  std::vector<int32_t> positions;

  RouteInput Input() const {
    return {ids.data(),
            static_cast<int64_t>(ids.size()),
            slot_ends.data(),
            slot_ids.data(),
            static_cast<int64_t>(slot_ends.size()),
            assignment.data(),
            static_cast<int64_t>(assignment.size()),
            num_servers};
  }

  std::string Problem() const { return CheckRouteInput(Input()); }

  void Run() {
    CHECK_EQ(Problem(), "");
    positions.assign(ids.size(), -7);
    const Route route = MakeRoute(Input(), positions.data());
    std::vector<int64_t*> key_outputs;
    std::vector<int32_t*> slot_outputs;
    keys.clear();
    slots.clear();
    for (int64_t size : route.server_sizes) {
      keys.emplace_back(size);
      slots.emplace_back(size);
    }
    for (auto& server_keys : keys) key_outputs.push_back(server_keys.data());
    for (auto& server_slots : slots) slot_outputs.push_back(server_slots.data());
    WriteByServer(route, key_outputs, slot_outputs);
  }
};

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST(KeysComeOnceInOrderOfFirstAppearance) {
  Case c;
  c.ids = {9, 5, 9, -3, 5, 9};
  c.slot_ends = {2, 6};
  c.slot_ids = {11, 22};
  c.Run();
  CHECK_TRUE((c.keys[0] == std::vector<int64_t>{9, 5, -3}));
  CHECK_TRUE((c.slots[0] == std::vector<int32_t>{11, 11, 22}));
  CHECK_TRUE((c.positions == std::vector<int32_t>{0, 1, 0, 2, 1, 0}));
}

TEST(PaddingAndReservedKeysAreNotSent) {
  Case c;
  c.ids = {0, INT64_MIN, 4, INT64_MIN + 1, 0, INT64_MIN + 2, INT64_MAX, -1};
  c.slot_ends = {8};
  c.slot_ids = {1};
  c.Run();
  CHECK_TRUE((c.keys[0] == std::vector<int64_t>{4, INT64_MIN + 2, INT64_MAX, -1}));
  CHECK_TRUE((c.positions == std::vector<int32_t>{-1, -1, 0, -1, -1, 1, 2, 3}));
}

TEST(EmptyInputs) {
  Case c;
  c.Run();
  CHECK_EQ(c.keys[0].size(), 0u);
  c.num_servers = 3;
  c.slot_ends = {0, 0};
  c.slot_ids = {1, 2};
  c.Run();
  CHECK_EQ(c.keys.size(), 3u);
  for (const auto& keys : c.keys) CHECK_EQ(keys.size(), 0u);
}

TEST(EveryPositionHoldsItsIdOnItsServer) {
  std::mt19937_64 random(7);
  for (int32_t num_servers : {1, 2, 3, 7}) {
    Case c;
    c.num_servers = num_servers;
    c.assignment.clear();
    for (int shard = 0; shard < 64; ++shard) {
      c.assignment.push_back(static_cast<int32_t>(random() % num_servers));
    }
    for (int32_t slot = 0; slot < 5; ++slot) {
      const int size = static_cast<int>(random() % 3000);
      for (int i = 0; i < size; ++i) c.ids.push_back(static_cast<int64_t>(random() % 1000) - 3);
      c.slot_ends.push_back(static_cast<int64_t>(c.ids.size()));
      c.slot_ids.push_back(100 + slot);
    }
    c.Run();

    std::map<int64_t, int32_t> first_slot;
    for (size_t i = 0, s = 0; i < c.ids.size(); ++i) {
      while (static_cast<int64_t>(i) >= c.slot_ends[s]) ++s;
      if (c.ids[i] != 0) first_slot.emplace(c.ids[i], c.slot_ids[s]);
    }
    std::vector<int64_t> all_keys;
    for (int32_t server = 0; server < num_servers; ++server) {
      for (size_t i = 0; i < c.keys[server].size(); ++i) {
        const int64_t key = c.keys[server][i];
        CHECK_EQ(c.assignment[VirtualShard(static_cast<uint64_t>(key), 64)], server);
        CHECK_EQ(c.slots[server][i], first_slot[key]);
        all_keys.push_back(key);
      }
    }
    CHECK_EQ(all_keys.size(), first_slot.size());
    CHECK_EQ(std::set<int64_t>(all_keys.begin(), all_keys.end()).size(), all_keys.size());
    // Within a server the first occurrences are in order.
    std::vector<size_t> seen(num_servers);
    std::set<int64_t> met;
    for (size_t i = 0; i < c.ids.size(); ++i) {
      const int64_t key = c.ids[i];
      if (key == 0) {
        CHECK_EQ(c.positions[i], -1);
        continue;
      }
      CHECK_EQ(all_keys[c.positions[i]], key);
      if (!met.insert(key).second) continue;
      const int32_t server = c.assignment[VirtualShard(static_cast<uint64_t>(key), 64)];
      CHECK_EQ(c.keys[server][seen[server]++], key);
    }
  }
}

TEST(BadInputIsNamed) {
  Case c;
  c.ids = {1, 2, 3};
  c.slot_ends = {2};
  c.slot_ids = {1};
  CHECK_TRUE(Contains(c.Problem(), "slot_ends must end at the number of ids, 3, not at 2"));
  c.slot_ends = {4};
  CHECK_TRUE(Contains(c.Problem(), "slot_ends must end at"));
  c.slot_ends = {4, 3};
  c.slot_ids = {1, 2};
  CHECK_TRUE(Contains(c.Problem(), "slot_ends[1] is 3"));
  c.slot_ends = {-1, 3};
  CHECK_TRUE(Contains(c.Problem(), "slot_ends[0] is -1"));
  c.slot_ends = {1, 3};
  CHECK_EQ(c.Problem(), "");
  for (int32_t server : {-1, 1}) {
    c.assignment = {0, server};
    CHECK_TRUE(Contains(c.Problem(), "assignment[1] is " + std::to_string(server)));
  }
  c.assignment = {};
  CHECK_TRUE(Contains(c.Problem(), "assignment must hold"));
  c.assignment = {0};
  c.num_servers = 0;
  CHECK_TRUE(Contains(c.Problem(), "num_servers must be 1 or more"));
}

}  // namespace tfps
