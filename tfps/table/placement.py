"""Which parameter server holds a feasign: key -> virtual shard -> server."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

DEFAULT_SHARDS = 1024


def assign_shards(num_shards: int, num_servers: int) -> np.ndarray:
  """The assignment of a new table: shard i on server i mod `num_servers`.

  Returns:
    int32 array [num_shards]: the server of each virtual shard.
  """
  return (np.arange(num_shards) % num_servers).astype(np.int32)


def virtual_shards(keys: Any, num_shards: int) -> np.ndarray:
  """The virtual shard, in [0, `num_shards`), of each of `keys` int64 [n]; alike in every process.

  Returns:
    int64 array [n]: the upper 32 bits of splitmix64 (Steele, Lea, Flood 2014), scaled.
  """
  x = np.asarray(keys, np.int64).reshape(-1).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  x ^= x >> np.uint64(31)
  return (((x >> np.uint64(32)) * np.uint64(num_shards)) >> np.uint64(32)).astype(np.int64)


def reassign(assignment: Any, num_servers: int, servers_before: int | None = None) -> np.ndarray:
  """The assignment on another number of servers: only the shards that must move do.

  Onto more servers, the new ones take their share of the shards, in the same proportion from each
  old one: of N to N + 1 servers about 1 / (N + 1) of the shards move, and none between old servers.
  Onto fewer, the shards of the last ones are spread evenly over those that stay. The same arguments
  give the same result in every process.

  Args:
    assignment: int array [num_shards], the server of each virtual shard now.
    num_servers: how many servers there will be, at least 1.
    servers_before: how many there are now; by default as many as `assignment` names. It matters
      where the last ones have no shard.

  Returns:
    int32 array [num_shards]: the server of each virtual shard then.
  """
  result = np.array(assignment, np.int32)
  if servers_before is None:
    servers_before = int(result.max(initial=-1)) + 1
  if num_servers < servers_before:
    leaving = np.flatnonzero(result >= num_servers)
    stay = np.bincount(result[result < num_servers], minlength=num_servers)
    takers = np.argsort(stay, kind="stable")
  else:
    moves = result.size * (num_servers - servers_before) // num_servers
    # Shards at equal distances in the order of their servers, so that each server gives its share.
    steps = np.arange(result.size + 1) * moves // result.size
    leaving = np.argsort(result, kind="stable")[np.diff(steps) > 0]
    takers = np.arange(servers_before, num_servers)
  result[leaving] = np.resize(takers, leaving.size)
  return result


def server_loads(assignment: np.ndarray, num_servers: int, loads: Any) -> np.ndarray:
  """The load of each server, relative to the mean.

  Args:
    assignment: int array [num_shards], the server of each virtual shard.
    num_servers: how many servers there are.
    loads: array [k, num_shards], what each shard costs by k measures, each 0 or more.

  Returns:
    float64 array [k, num_servers]: 1 is the mean of all servers, also where all loads are 0.
  """
  of_servers = np.stack(
    [np.bincount(assignment, weights=load, minlength=num_servers) for load in np.asarray(loads)]
  )
  means = of_servers.mean(axis=1, keepdims=True)
  return np.divide(of_servers, means, out=np.ones_like(of_servers), where=means > 0)


def rebalance(assignment: Any, num_servers: int, loads: Any, tolerance: float = 0.1) -> np.ndarray:
  """Moves few shards so that every server comes near the mean by every measure.

  Greedy: each step makes the one move that reduces the squared distances beyond `tolerance` most,
  until no move reduces them; then shards that need not have moved go back. A shard that alone is
  more than a server should hold keeps its server overloaded. The same arguments give the same
  result in every process.

  Args:
    assignment: int array [num_shards], the server of each virtual shard now.
    num_servers: how many servers there are.
    loads: array [k, num_shards], what each shard costs by k measures, each 0 or more.
    tolerance: how far from the mean, as a part of it, is near enough.

  Returns:
    int32 array [num_shards]: the assignment proposed.
  """
  before = np.array(assignment, np.int32)
  weights = np.asarray(loads, np.float64)
  weights = weights[weights.sum(axis=1) > 0]
  if not weights.size:
    return before
  weights = weights * num_servers / weights.sum(axis=1, keepdims=True)
  after = _spread(before, num_servers, weights, tolerance)
  # The largest first: they are what moving costs.
  moved = np.flatnonzero(after != before)
  for shard in moved[np.argsort(-weights[:, moved].sum(axis=0), kind="stable")]:
    home = after.copy()
    home[shard] = before[shard]
    stays, goes = (
      _cost(server_loads(each, num_servers, weights), tolerance).sum() for each in (home, after)
    )
    if stays <= goes:
      after = home
  return after


def _spread(
  assignment: np.ndarray, num_servers: int, weights: np.ndarray, tolerance: float
) -> np.ndarray:
  """Moves shards, one at a time, until all servers are near enough or no move makes it better.

  Each move goes for half the tolerance: servers at its edge would stand in each other's way.
  """
  result = assignment.copy()
  while True:
    loads = server_loads(result, num_servers, weights)
    if not _cost(loads, tolerance).any():
      return result
    cost = _cost(loads, tolerance / 2)
    for worst in np.argsort(-cost.sum(axis=0), kind="stable"):
      # Every move from this server to another, and from another to this one. (A move to where it
      # is only costs.)
      own, others = np.flatnonzero(result == worst), np.flatnonzero(result != worst)
      shard = np.concatenate([np.repeat(own, num_servers), others])
      to = np.concatenate([np.tile(np.arange(num_servers), own.size), np.full(others.size, worst)])
      change = sum(
        (_cost(loads[:, server] + sign * weights[:, shard], tolerance / 2) - cost[:, server]).sum(0)
        for server, sign in ((result[shard], -1), (to, 1))
      )
      best = change.argmin()
      if change[best] < -1e-9:
        result[shard[best]] = to[best]
        break
    else:
      return result


def _cost(loads: np.ndarray, tolerance: float) -> np.ndarray:
  return np.maximum(np.abs(loads - 1) - tolerance, 0) ** 2


def server_devices() -> list[str]:
  """The devices that hold rows, in order.

  Those of the parameter servers of the strategy in scope; this process's CPU without a cluster.
  """
  if not isinstance(tf.distribute.get_strategy(), tf.distribute.ParameterServerStrategy):
    return ["/device:CPU:0"]
  return cluster_devices("ps")


def cluster_devices(job: str) -> list[str]:
  """The CPU devices of the tasks of `job` ("ps" or "worker") in the connected cluster, by index."""
  devices = [
    tf.DeviceSpec.from_string(device.name) for device in tf.config.list_logical_devices("CPU")
  ]
  return [
    device.to_string()
    for device in sorted(devices, key=lambda device: device.task)
    if device.job == job
  ]
