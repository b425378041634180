"""What the tests of checkpoints share: tables full of rows, and looking at what is in files."""

import os

import numpy as np
import tensorflow as tf

import tfps
from tfps import native
from tfps.table import placement

KEYS = np.arange(1, 401) * 7919


def make_table(num_servers=1, name="ctr", **arguments):
  """A table whose parts play so many parameter servers, all in this process."""
  devices = placement.server_devices
  placement.server_devices = lambda: ["/device:CPU:0"] * num_servers
  try:
    accessor = tfps.CtrAccessor(create_threshold=1.0, delete_threshold=0.2)
    settings = dict(
      mf_dim=3, num_shards=16, mf_init_range=0.5, accessor=accessor, optimizer=tfps.Adam()
    )
    return _Parted(name, num_servers, **{**settings, **arguments})
  finally:
    placement.server_devices = devices


class _Parted(tfps.FeasignTable):
  """Each part needs a name of its own where all are in one process."""

  def __init__(self, name, num_servers, **arguments):
    super().__init__(name, **arguments)
    more = [tfps.FeasignTable(name, **arguments) for _ in range(num_servers - 1)]
    self._parts = more  # Keeps them alive.
    self._handles[1:] = [part._handles[0] for part in more]


def push(table, keys, seed=0):
  """Pushes random counts and gradients, the same for the same seed, each key to its server."""
  push_rows(table, keys, (keys % 3).astype(np.int32), seed)


def push_rows(table, keys, slots, seed=0):
  """The same for rows of given slots (a number, or int [n]); returns what was pushed, by key."""
  rng = np.random.default_rng(seed)
  show = rng.integers(1, 4, len(keys)).astype(np.float32)
  click = rng.binomial(show.astype(int), 0.3).astype(np.float32)
  gradients = rng.normal(size=[len(keys), table.row_width]).astype(np.float32)
  rows = (keys, np.broadcast_to(slots, len(keys)).astype(np.int32), show, click, gradients)
  server_of = table.assignment[placement.virtual_shards(keys, table.num_shards)]
  parts = [np.flatnonzero(server_of == server) for server in range(table.num_servers)]
  table.push([tuple(column[at] for column in rows) for at in parts])
  return rows


def serve(table, keys):
  """Marks those of `keys` that the table has as served, as an export does."""
  keys = np.asarray(keys)[table.lookup(keys)["found"]]
  there = table.lookup(keys)
  floats = [
    np.concatenate(
      [[there["lr_w"][i]], there["lr_state"][i]]
      + ([there["mf_w"][i], there["mf_state"][i]] if there["admitted"][i] else [])
    )
    for i in range(len(keys))
  ]
  table.upsert(
    keys,
    there["slot"],
    there["statistics"],
    there["unseen_days"],
    there["admitted"] + 2,
    np.concatenate(floats),
    np.cumsum([0, *map(len, floats)]),
  )


def keys_of(table):
  """The keys of all servers, in order."""
  parts = [
    native.ops.tfps_keys(table=server.handle, first_shard=0, last_shard=table.num_shards)
    for server in table.servers
  ]
  return np.sort(np.concatenate(parts))


def assert_same(one, other, keys=KEYS):
  """Both tables hold the same rows, bit for bit."""
  np.testing.assert_array_equal(keys_of(one), keys_of(other))
  others = other.lookup(keys)
  for name, value in one.lookup(keys).items():
    assert value.tobytes() == others[name].tobytes(), name


def saved_rows(path, table_name, head_floats, row_floats):
  """{key: everything in its row, as bytes} of a checkpoint, read with TensorFlow's own tools alone.

  `head_floats` and `row_floats` are the floats of a row before and after its admission.
  """
  rows = {}
  for index in tf.io.gfile.glob(f"{path}/{table_name}/*.index"):
    reader = tf.train.load_checkpoint(index.removesuffix(".index"))
    names = {name.rsplit("/", 1)[0] for name in reader.get_variable_to_shape_map()}
    for shard in sorted(names):
      tensors = {
        name: reader.get_tensor(f"{shard}/{name}")
        for name in (
          "keys",
          "slots",
          "statistics",
          "unseen_days",
          "flags",
          "floats",
          "finished_day",
        )
      }
      floats = tensors.pop("floats")
      finished_day = int(tensors.pop("finished_day"))
      begin = 0
      for i, key in enumerate(tensors["keys"]):
        end = begin + (row_floats if tensors["flags"][i] & 1 else head_floats)
        row = [
          tensors[name][i].tobytes() for name in ("slots", "statistics", "unseen_days", "flags")
        ]
        rows[int(key)] = (*row, floats[begin:end].tobytes(), finished_day)
        begin = end
      assert begin == floats.size
  return rows


def checkpoints_in(folder):
  """The names of all there is in a folder of checkpoints, but for the lock of who writes to it."""
  return sorted(set(os.listdir(folder)) - {"lock"})
