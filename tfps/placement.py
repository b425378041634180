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
