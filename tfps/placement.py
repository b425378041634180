"""Which parameter server holds a feasign: key -> virtual shard -> server."""

import numpy as np
import tensorflow as tf

DEFAULT_SHARDS = 1024


def assign_shards(num_shards, num_servers):
  """The assignment of a new table: shard i on server i mod `num_servers`.

  Returns:
    int32 array [num_shards]: the server of each virtual shard.
  """
  return (np.arange(num_shards) % num_servers).astype(np.int32)


def reassign(assignment, num_servers, servers_before=None):
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
    # Every so-manieth shard in the order of their servers: from each server its part.
    steps = np.arange(result.size + 1) * moves // result.size
    leaving = np.argsort(result, kind="stable")[np.diff(steps) > 0]
    takers = np.arange(servers_before, num_servers)
  result[leaving] = np.resize(takers, leaving.size)
  return result


def server_devices():
  """The devices that hold rows: each parameter server of the strategy in scope, in order, or this process's."""
  if not isinstance(tf.distribute.get_strategy(), tf.distribute.ParameterServerStrategy):
    return ["/device:CPU:0"]
  return cluster_devices("ps")


def cluster_devices(job):
  """The CPU devices of the tasks of `job` ("ps" or "worker") in the connected cluster, in order of their index."""
  devices = [
    tf.DeviceSpec.from_string(device.name) for device in tf.config.list_logical_devices("CPU")
  ]
  return [
    device.to_string()
    for device in sorted(devices, key=lambda device: device.task)
    if device.job == job
  ]
