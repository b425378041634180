"""Which parameter server holds a feasign: key -> virtual shard -> server."""

import numpy as np

DEFAULT_SHARDS = 1024


def assign_shards(num_shards, num_servers):
  """The assignment of a new table: shard i on server i mod `num_servers`.

  Returns:
    int32 array [num_shards]: the server of each virtual shard.
  """
  return (np.arange(num_shards) % num_servers).astype(np.int32)
