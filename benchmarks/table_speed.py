"""Pulls and pushes of one table beside TFRA's CuckooHashTable and beside the limit of memory.

The limit is a C++ loop (memory_limit.cc) that for the same number of random keys reads one random
line of an index, then the row that it names, and copies the floats of a pull out. All are called in
turn, on all cores. A size whose tables do not fit into the memory is left out, and the title says
so.
"""

import ctypes
import math
import pathlib
import subprocess
import sys
import tempfile

import harness
import numpy as np
import tables
import tensorflow as tf
from tqdm import tqdm

_SPARE = 3 << 29  # bytes of memory that stay free
_KINDS = {"pull": "TFRA lookup", "push": "TFRA lookup + insert"}
_LIMIT = "limit"
# mf_dim: how many times TFRA's speed a pull and a push have at least. 64 is only reported.
_OF_TFRA = {8: {"pull": 3, "push": 4}, 16: {"pull": 2, "push": 2}}
_OF_LIMIT = {"pull": 0.6, "push": 0.4}
_GROWTH = 2  # times the time per key in the smallest table, at most


class Limit:
  """The C++ loop over memory of the table's size."""

  def __init__(self, library, mf_dim, rows):
    self._library, self._width, self._rows = library, 1 + mf_dim, rows
    row_bytes = ctypes.c_int64(tables.row_bytes(mf_dim))
    self._memory = library.memory_limit_new(ctypes.c_int64(rows), row_bytes)

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


def needed_bytes(mf_dim, rows):
  """About what the three take together."""
  native = rows * (tables.row_bytes(mf_dim) + 16)
  limit = rows * (tables.row_bytes(mf_dim) + 8)
  peer = 2 ** math.ceil(math.log2(init_size(rows))) * (8 + 4 * (1 + mf_dim) + 6)
  return native + limit + peer


def init_size(rows):
  """Of TFRA's table: it makes a power of two of it, and so is 0.4 to 0.8 full."""
  return rows * 5 // 4


def measure(flags, library, mf_dim, rows):
  """Fills the tables, and returns a row of results for each batch size and distribution."""
  table, peer = tables.Native(mf_dim), tables.Tfra(mf_dim, init_size(rows))
  limit = Limit(library, mf_dim, rows)
  tables.fill([table, peer], 0, rows)
  threads = harness.machine()["cores"]
  results = []
  for batch in flags.batches:
    for distribution in flags.distributions:
      shape = [max(1, flags.keys // batch), batch]
      keys = tables.key_of(tables.numbers(distribution, rows, shape, seed=batch))
      tensors = [tf.constant(part) for part in keys]
      functions = {
        "pull": lambda: [table.pull(part) for part in tensors],
        _KINDS["pull"]: lambda: [peer.pull(part) for part in tensors],
        "push": lambda: [table.push(part) for part in tensors],
        _KINDS["push"]: lambda: [peer.push(part) for part in tensors],
        _LIMIT: lambda: limit.run(keys.view(np.uint64), threads),
      }
      taken = harness.interleaved_seconds(functions, flags.repeats)
      what = {"rows": rows, "mf_dim": mf_dim, "batch": batch, "keys": distribution}
      results.append(what | summarise(taken, keys.size))
  for one in (table, peer, limit):
    one.close()
  return results


def summarise(taken, keys):
  """Million keys a second of each, and the ratios."""
  speed = {name: keys / spread.median / 1e6 for name, spread in taken.items()}
  row = {column(name): round(value, 2) for name, value in speed.items()}
  row |= {f"{kind} / TFRA": round(speed[kind] / speed[peer], 2) for kind, peer in _KINDS.items()}
  row |= {f"{kind} / limit": round(speed[kind] / speed[_LIMIT], 2) for kind in _KINDS}
  noise = max((spread.high - spread.low) / spread.median for spread in taken.values())
  return row | {"largest spread": round(noise, 2)}


def column(name):
  return f"{name}, M/s"


def goals_of(results):
  """What the worst row of each kind reaches."""
  goals = []
  for mf_dim in dict.fromkeys(row["mf_dim"] for row in results):
    of_dim = [row for row in results if row["mf_dim"] == mf_dim]
    if mf_dim in _OF_TFRA:
      for name, wanted in [("TFRA", _OF_TFRA[mf_dim]), ("limit", _OF_LIMIT)]:
        for kind in _KINDS:
          least = min(row[f"{kind} / {name}"] for row in of_dim)
          what = f"mf_dim {mf_dim}, {kind} / {name}"
          goals.append(harness.Goal(what, least, wanted[kind], at_least=True))
    sizes = sorted({row["rows"] for row in of_dim})
    for kind in _KINDS if len(sizes) > 1 else ():
      what = f"mf_dim {mf_dim}, {kind}, time per key at {sizes[-1]:,} rows, of that at {sizes[0]:,}"
      goals.append(harness.Goal(what, growth(of_dim, kind, sizes), _GROWTH))
  return goals


def growth(rows, kind, sizes):
  """The most that the time per key grows from the first size to the last, over all settings."""
  speed = {(row["rows"], row["batch"], row["keys"]): row[column(kind)] for row in rows}
  calls = {key[1:] for key in speed}
  return round(max(speed[(sizes[0], *call)] / speed[(sizes[-1], *call)] for call in calls), 2)


def draw(results, path):
  """Draws the speeds with the largest batch by table size, a panel per mf_dim and distribution."""
  import matplotlib

  matplotlib.use("agg")
  from matplotlib import pyplot as plt

  batch = max(row["batch"] for row in results)
  dims, kinds = ({row[name]: None for row in results} for name in ("mf_dim", "keys"))
  names = [_LIMIT, *(name for pair in _KINDS.items() for name in pair)]
  styles = dict(zip(names, ["k:", "C0-", "C0--", "C1-", "C1--"]))
  figure, panels = plt.subplots(
    len(kinds), len(dims), figsize=(3.6 * len(dims), 3 * len(kinds)), sharex=True,
    squeeze=False, layout="constrained",
  )  # fmt: skip
  for row_of_panels, keys in zip(panels, kinds):
    for axes, mf_dim in zip(row_of_panels, dims):
      what = {"mf_dim": mf_dim, "keys": keys, "batch": batch}
      rows = [row for row in results if what.items() <= row.items()]
      for name, style in styles.items():
        axes.plot(
          [row["rows"] for row in rows], [row[column(name)] for row in rows], style, marker="o",
          label=name
        )  # fmt: skip
      axes.set(title=f"mf_dim {mf_dim}, {keys} keys", xscale="log")
      axes.set_ylim(0)
      axes.grid(alpha=0.3)
  figure.supxlabel("rows in the table")
  figure.supylabel(f"million keys/s, batches of {batch:,}")
  lines, labels = panels[0, 0].get_legend_handles_labels()
  figure.legend(lines, labels, loc="outside upper center", ncols=2 * len(dims) - 1)
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=100)
  plt.close(figure)


def parser():
  flags = harness.parser(__doc__)
  sizes = [1_000_000, 10_000_000, 50_000_000]
  flags.add_argument("--rows", type=int, nargs="+", default=sizes, help="sizes of the table")
  flags.add_argument("--mf-dims", type=int, nargs="+", default=[8, 16, 64])
  flags.add_argument("--batches", type=int, nargs="+", default=[8192, 65536], help="keys of a call")
  kinds = ["uniform", "zipf"]
  flags.add_argument("--distributions", nargs="+", default=kinds, choices=kinds)
  flags.add_argument("--keys", type=int, default=1 << 20, help="keys of one measurement")
  flags.add_argument("--repeats", type=int, default=5)
  flags.add_argument("--plot", metavar="FILE", help="draw the speeds; the name's ending says how")
  flags.add_argument(
    "--quick", action="store_true", help="two small tables, to see that all is well"
  )
  return flags


def main():
  flags = parser().parse_args()
  if flags.quick:
    flags.rows, flags.mf_dims, flags.keys, flags.repeats = [50_000, 200_000], [8], 1 << 17, 2
  results, left_out = [], []
  cases = [(mf_dim, rows) for mf_dim in flags.mf_dims for rows in flags.rows]
  with tempfile.TemporaryDirectory() as folder, tqdm(cases, unit=" tables") as progress:
    library = compile_limit(folder)
    for mf_dim, rows in progress:
      progress.set_postfix_str(f"mf_dim {mf_dim}, {rows:,} rows")
      if needed_bytes(mf_dim, rows) + _SPARE > tables.available_bytes():
        left_out.append(f"mf_dim {mf_dim} with {rows:,} rows")
      else:
        results += measure(flags, library, mf_dim, rows)
  if not results:
    print(f"No table fits into the memory: {', '.join(left_out)}.", file=sys.stderr)
    return 1
  if flags.plot:
    draw(results, flags.plot)
  title = "Pulls and pushes beside TFRA and the limit of memory"
  title += f" (left out for lack of memory: {', '.join(left_out)})" if left_out else ""
  return harness.report(flags, title, results, goals_of(results))


if __name__ == "__main__":
  sys.exit(main())
