"""Pulls and pushes of one table beside TFRA's CuckooHashTable and beside the limit of memory.

The limit is a C++ loop (memory_limit.cc) that for the same number of random keys reads one random line of an index,
then the row that it names, and copies the floats of a pull out. All are called in turn, on all cores.
"""

import ctypes
import pathlib
import subprocess
import sys
import tempfile
import uuid

import harness
import numpy as np
import tensorflow as tf
import tfra
from tfps import native

_FILL = 1 << 18  # keys of a batch that fills a table


class Native:
  """The native engine through its ops: every row admitted, adagrad."""

  def __init__(self, mf_dim):
    self._width = 1 + mf_dim
    self._table = native.ops.tfps_table(
      shared_name=uuid.uuid4().hex, options=f"mf_dim={mf_dim};accessor.create_threshold=0"
    )

  def close(self):
    tf.raw_ops.DestroyResourceOp(resource=self._table, ignore_lookup_error=True)

  def pull(self, keys):
    return native.ops.tfps_pull(table=self._table, keys=keys, row_width=self._width)

  def push(self, keys):
    n = keys.shape[0]
    ones = tf.ones([n])
    native.ops.tfps_push(
      self._table, keys, tf.ones([n], tf.int32), ones, tf.zeros([n]), tf.fill([n, self._width], 0.01)
    )


class Tfra:
  """TFRA's table of rows of the same width: look-up, and look-up with an insert of what it found."""

  def __init__(self, mf_dim, rows):
    self._default = tf.zeros([1 + mf_dim])
    self._table = tfra.dynamic_embedding().CuckooHashTable(
      key_dtype=tf.int64,
      value_dtype=tf.float32,
      default_value=self._default,
      name=uuid.uuid4().hex,
      init_size=2 * rows,
    )

  def close(self):
    tf.raw_ops.DestroyResourceOp(resource=self._table.resource_handle, ignore_lookup_error=True)

  def fill(self, keys):
    self._table.insert(keys, tf.zeros([keys.shape[0], self._default.shape[0]]))

  def pull(self, keys):
    return self._table.lookup(keys)

  def push(self, keys):
    self._table.insert(keys, self._table.lookup(keys) - 0.01)


class Limit:
  """The C++ loop over memory of the table's size."""

  def __init__(self, library, mf_dim, rows, row_bytes):
    self._library, self._width, self._rows = library, 1 + mf_dim, rows
    self._memory = library.memory_limit_new(ctypes.c_int64(rows), ctypes.c_int64(row_bytes))

  def close(self):
    self._library.memory_limit_delete(ctypes.c_void_p(self._memory), ctypes.c_int64(self._rows))

  def run(self, keys, threads):
    batches, n = keys.shape
    out = np.empty([n, self._width], np.float32)
    self._library.memory_limit_run(
      ctypes.c_void_p(self._memory),
      keys.ctypes.data_as(ctypes.c_void_p),
      ctypes.c_int64(batches),
      ctypes.c_int64(n),
      self._width,
      threads,
      out.ctypes.data_as(ctypes.c_void_p),
    )


def compile_limit(folder):
  """The loop as a ctypes library; raises CalledProcessError where g++ cannot."""
  source = pathlib.Path(__file__).with_name("memory_limit.cc")
  library = pathlib.Path(folder, "memory_limit.so")
  subprocess.run(
    ["g++", "-std=c++17", "-O3", "-shared", "-fPIC", "-pthread", source, "-o", library], check=True
  )
  loaded = ctypes.CDLL(str(library))
  loaded.memory_limit_new.restype = ctypes.c_void_p
  return loaded


def key_of(number):
  """The key of row `number`, an int64 array: no padding, none reserved."""
  return (number.astype(np.int64) + 1) * 0x5851F42D4C957F2D


def numbers(distribution, rows, shape, seed):
  """Random numbers of rows: uniform, or Zipf with exponent 1.05 by the inverse of its continuous distribution."""
  uniform = np.random.default_rng(seed).random(shape)
  if distribution == "uniform":
    return (uniform * rows).astype(np.int64)
  power = 1 - 1.05
  return np.minimum(((uniform * (rows**power - 1) + 1) ** (1 / power)).astype(np.int64), rows) - 1


def row_bytes(mf_dim):
  """Of an admitted row with adagrad: a head of 40 bytes and the floats, in units of 16."""
  return (40 + 4 * (mf_dim + 3) + 15) // 16 * 16


def measure(flags, library, mf_dim, rows):
  """Fills the tables, and returns a row of results for each batch size and distribution."""
  table, peer = Native(mf_dim), Tfra(mf_dim, rows)
  limit = Limit(library, mf_dim, rows, row_bytes(mf_dim))
  for begin in range(0, rows, _FILL):
    keys = tf.constant(key_of(np.arange(begin, min(begin + _FILL, rows))))
    table.push(keys)
    peer.fill(keys)
  threads = harness.machine()["cores"]
  results = []
  for batch in flags.batches:
    for distribution in flags.distributions:
      keys = key_of(numbers(distribution, rows, [max(1, flags.keys // batch), batch], seed=batch))
      tensors = [tf.constant(part) for part in keys]
      functions = {
        "pull": lambda: [table.pull(part) for part in tensors],
        "TFRA lookup": lambda: [peer.pull(part) for part in tensors],
        "push": lambda: [table.push(part) for part in tensors],
        "TFRA lookup + insert": lambda: [peer.push(part) for part in tensors],
        "limit": lambda: limit.run(keys.view(np.uint64), threads),
      }
      taken = harness.interleaved_seconds(functions, flags.repeats)
      speed = {name: keys.size / spread.median / 1e6 for name, spread in taken.items()}
      noise = max((spread.high - spread.low) / spread.median for spread in taken.values())
      results.append(
        {"rows": rows, "mf_dim": mf_dim, "batch": batch, "keys": distribution}
        | {f"{name}, M/s": round(value, 2) for name, value in speed.items()}
        | {
          "pull / TFRA": round(speed["pull"] / speed["TFRA lookup"], 2),
          "push / TFRA": round(speed["push"] / speed["TFRA lookup + insert"], 2),
          "pull / limit": round(speed["pull"] / speed["limit"], 2),
          "push / limit": round(speed["push"] / speed["limit"], 2),
          "largest spread": round(noise, 2),
        }
      )
  for one in (table, peer, limit):
    one.close()
  return results


def goals_of(results):
  """At mf_dim 8 and 16, the least of all rows of a kind: what TFRA's are beaten by, and shares of the limit."""
  wanted = {8: (3, 4), 16: (2, 2)}
  goals = []
  for mf_dim, (pull, push) in wanted.items():
    of_dim = [row for row in results if row["mf_dim"] == mf_dim]
    for name, limit in [("pull / TFRA", pull), ("push / TFRA", push), ("pull / limit", 0.6), ("push / limit", 0.4)]:
      if of_dim:
        least = min(row[name] for row in of_dim)
        goals.append(harness.Goal(f"mf_dim {mf_dim}, {name}", least, limit, at_least=True))
  return goals


def main():
  flags = harness.parser(__doc__)
  flags.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="sizes of the table")
  flags.add_argument("--mf-dims", type=int, nargs="+", default=[8, 16, 64])
  flags.add_argument("--batches", type=int, nargs="+", default=[8192, 65536], help="keys of a call")
  flags.add_argument("--distributions", nargs="+", default=["uniform", "zipf"], choices=["uniform", "zipf"])
  flags.add_argument("--keys", type=int, default=1 << 20, help="keys of one measurement")
  flags.add_argument("--repeats", type=int, default=5)
  flags.add_argument("--quick", action="store_true", help="one small table, to see that all is well")
  flags = flags.parse_args()
  if flags.quick:
    flags.rows, flags.mf_dims, flags.keys, flags.repeats = [200_000], [8], 1 << 17, 2
  results = []
  with tempfile.TemporaryDirectory() as folder:
    library = compile_limit(folder)
    for mf_dim in flags.mf_dims:
      for rows in flags.rows:
        results += measure(flags, library, mf_dim, rows)
  return harness.report(flags, "Pulls and pushes beside TFRA and the limit of memory", results, goals_of(results))


if __name__ == "__main__":
  sys.exit(main())
