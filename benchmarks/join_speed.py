"""The join beside a plain pandas merge of the same logs: records per second, and memory.

  merge: pandas merges all features with all actions, in memory, without a window, a copy or a
  restart being thought of. join: `tfps.join`'s Joiner takes the same columns in batches, with its
  state on disk and a commit after each batch, and gives
    labelled samples as columns.
  files, pandas and files, tfps: the same from JSON files: pandas reads, merges and writes a Parquet
  file; tfps join writes
    TFRecord files of tf.Example.

The join runs in a process of its own on logs of the given size and of a multiple, to see that its
memory stays flat.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import harness
import numpy as np
import pandas as pd
import pyarrow as pa

SECONDS = 3600.0  # of event time per million feature records: 278 a second
WAIT = 600.0


def main():
  parser = harness.parser(__doc__)
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.add_argument(
    "--records", type=int, default=1_000_000, help="of the feature log (default 1,000,000)"
  )
  parser.add_argument(
    "--batch", type=int, default=100_000, help="feature records of a batch (default 100,000)"
  )
  parser.add_argument(
    "--times",
    type=int,
    default=4,
    help="how many times longer the log is whose memory must be the same (default 4)",
  )
  parser.add_argument("--repeats", type=int, default=5, help="of each measurement (default 5)")
  parser.add_argument(
    "--speed",
    type=float,
    default=0.5,
    help="the goal, as a share of the merge's records/s (default 0.5)",
  )
  parser.add_argument(
    "--files-speed",
    type=float,
    default=0.7,
    help="the goal from files to files, as a share of pandas' records/s (default 0.7)",
  )
  parser.add_argument(
    "--slack",
    type=float,
    default=1.0,
    help="factor on the goal of memory, for logs so small that what does not grow with them weighs "
    "in",
  )
  parser.add_argument(
    "--folder", help="where the state and files are; a temporary folder by default"
  )
  parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)  # the fresh process
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix="join-speed-", dir=flags.folder) as folder:
    folder = pathlib.Path(folder)
    if flags.memory_of:
      print(json.dumps(memory(folder, flags.memory_of, flags.batch)))
      return 0
    return measure(flags, folder)


def measure(flags, folder):
  features, actions = logs(flags.records)
  rows = len(features["time"]) + len(actions["time"])
  frames = [
    pd.DataFrame({k: v.to_pylist() if isinstance(v, pa.Array) else v for k, v in log.items()})
    for log in (features, actions)
  ]
  batches = list(batched(features, actions, flags.batch))
  write_json(folder / "logs", frames)
  runs = {"merge": lambda: merge(*frames), "join": lambda: join(batches, fresh(folder))}
  runs |= {"files, pandas": lambda: pandas_files(folder), "files, tfps": lambda: tfps_files(folder)}
  check_same(merge(*frames), join(batches, fresh(folder)))
  taken = harness.interleaved_seconds(runs, flags.repeats)
  results = [
    {"what": name, "seconds": spread, "records_per_s": rows / spread.median}
    for name, spread in taken.items()
  ]
  peaks = [peak(flags, times) for times in (1, flags.times)]
  results += [
    {
      "what": f"join of {flags.records * times:,}, memory",
      "seconds": None,
      "records_per_s": None,
      "MB": mb,
    }
    for times, mb in zip((1, flags.times), peaks)
  ]
  results = [{"MB": None} | result for result in results]
  results = [
    {name: result[name] for name in ("what", "seconds", "records_per_s", "MB")}
    for result in results
  ]
  goals = [
    harness.Goal(
      "join's records/s over merge's",
      taken["merge"].median / taken["join"].median,
      flags.speed,
      at_least=True,
    ),
    harness.Goal(
      "tfps join's records/s over pandas', files to files",
      taken["files, pandas"].median / taken["files, tfps"].median,
      flags.files_speed,
      at_least=True,
    ),
    harness.Goal(
      f"memory of {flags.times} times the log, over that of it",
      peaks[1] / peaks[0],
      1.15 * flags.slack,
    ),
  ]
  return harness.report(
    flags,
    f"Joining {flags.records:,} feature records with {rows - flags.records:,} actions",
    results,
    goals,
  )


def logs(records, seed=0, begin=0):
  """Columns of both logs as they arrive: up to 10 s of disorder, 12% of the items clicked."""
  rng = np.random.default_rng([seed, begin])
  number = np.arange(begin, begin + records)
  time_ms = (
    1_780_000_000_000 + (number * SECONDS / 1e3).astype(np.int64) + rng.integers(0, 10_000, records)
  )
  item = rng.integers(0, 100_000, records)
  request_id = [f"request-{n // 10:010d}" for n in number]
  item_id = [f"item-{i}-{n % 10}" for n, i in zip(number, item)]
  hour = rng.integers(0, 24, records)
  user = [f"user-{u}" for u in rng.integers(0, 1_000_000, records)]
  clicked = np.flatnonzero(rng.random(records) < 0.12)
  click_ms = time_ms[clicked] + (rng.exponential(60, len(clicked)) * 1000).astype(np.int64)
  order = np.argsort(click_ms + rng.integers(0, 10_000, len(clicked)))
  ids = [pa.array(column) for column in (request_id, item_id)]
  features = {
    "request_id": ids[0],
    "item_id": ids[1],
    "time": time_ms,
    "user_id": pa.array(user),
    "hour": hour,
  }
  taken = pa.array(clicked[order])
  actions = {
    "request_id": ids[0].take(taken),
    "item_id": ids[1].take(taken),
    "time": click_ms[order],
  }
  return features, actions


def merge(features, actions):
  """The label of each feature record, as a left join has it.

  Copies and windows are not its business.
  """
  merged = features.merge(
    actions, on=["request_id", "item_id"], how="left", suffixes=("", "_action")
  )
  merged["click"] = merged["time_action"].notna()
  return merged


def settings():
  from tfps.join.settings import Label, Settings

  return Settings(
    (Label("click", "click", int(WAIT * 1000)),), "click", disorder_ms=20_000, remember_ms=60_000
  )


def batched(features, actions, size):
  """Returns the columns of features and of actions of each batch, with map entries of samples."""
  from tfps.join import samples

  entries = samples.shown(features["request_id"], features["item_id"], pa.array(features["time"]), {
    name: pa.array(features[name]) for name in ("user_id", "hour")
  })  # fmt: skip
  newest = 0
  for begin in range(0, len(entries), size):
    rows = slice(begin, begin + size)
    time_ms = features["time"][rows]
    end = np.searchsorted(actions["time"], time_ms.max())
    if begin + size >= len(entries):
      end = len(actions["time"])
    yield (
      {name: features[name].slice(begin, size) for name in ("request_id", "item_id")}
      | {"time": time_ms, "entries": entries.slice(begin, size)},
      {name: column[newest:end] for name, column in actions.items()},
    )
    newest = end


def join(batches, folder):
  """Joins batches; returns (feature records that came out, clicks)."""
  from tfps.join import keys
  from tfps.join.batches import Features, actions_of
  from tfps.join.joiner import Joiner
  from tfps.join.store import Store

  store = Store(folder)
  joiner = Joiner(settings(), store)
  shown = clicks = 0
  for _number, (features, actions) in enumerate(batches, 1):
    store.begin()
    ids = keys.of_ids(features["request_id"], features["item_id"])
    action_ids = keys.of_ids(actions["request_id"], actions["item_id"])
    zeros = np.zeros(len(actions["time"]))
    columns = (
      Features(ids, features["time"], features["entries"]),
      actions_of(action_ids, actions["time"], zeros, zeros),
    )
    for samples in joiner.step(*columns):
      shown += len(samples)
      clicks += int(samples.click.sum())
    joiner.save()
    store.commit()
    joiner.committed()
  store.begin()
  for samples in joiner.step(None, None, close=True):
    shown += len(samples)
    clicks += int(samples.click.sum())
  joiner.save()
  store.commit()
  store.close()
  return shown, clicks, joiner.counts["late_actions"]


def check_same(merged, joined):
  shown, clicks, late = joined
  if (len(merged), merged["click"].sum()) != (shown, clicks + late):
    raise RuntimeError(
      f"The merge has {len(merged)} rows and {merged['click'].sum()} clicks, the join {joined}."
    )


def fresh(folder):
  return tempfile.mkdtemp(dir=folder)


def write_json(folder, frames):
  for name, frame in zip(("features", "actions"), frames):
    (folder / name).mkdir(parents=True)
    frame = frame if name == "features" else frame.assign(action="click")
    frame.to_json(folder / name / "log.json", orient="records", lines=True)


def pandas_files(folder):
  frames = [
    pd.read_json(folder / "logs" / name / "log.json", lines=True, engine="pyarrow")
    for name in ("features", "actions")
  ]
  merge(*frames).to_parquet(folder / "merged.parquet")


def tfps_files(folder):
  from tfps.join.run import Run
  from tfps.join.settings import default_config

  config = default_config()
  config.features.folder, config.actions.folder = (
    f"{folder}/logs/features",
    f"{folder}/logs/actions",
  )
  config.features.time_unit = config.actions.time_unit = "ms"
  config.max_future = 1e10
  config.state, config.samples.folder = fresh(folder), fresh(folder)
  config.labels = {"click": {"action": "click", "wait": WAIT, "value": ""}}
  config.disorder, config.remember = 20.0, 60.0
  Run(config, once=True, close=True).run()


def memory(folder, records, batch):
  """MB of resident memory at the peak of a join of a log that is made while it is read."""
  made = (
    one for begin in range(0, records, batch) for one in batched(*logs(batch, begin=begin), batch)
  )
  join(made, fresh(folder))
  with open("/proc/self/status") as status:
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def peak(flags, times):
  command = [
    sys.executable,
    __file__,
    f"--memory-of={flags.records * times}",
    f"--batch={flags.batch}",
  ]
  if flags.folder:
    command.append(f"--folder={flags.folder}")
  return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


if __name__ == "__main__":
  sys.exit(main())
