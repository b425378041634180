"""kill -9 of `tfps join` at random while logs arrive: each sample is written exactly once.

python -m tests.soak.join --kills=20
python -m tests.soak.join --engine=spark --kills=5 --records=10000
python -m tests.soak.join --topics --kills=10 --records=20000

With --topics, the logs are topics of librdkafka's own broker; each partition lags at random.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from tests import join_logs
from tests.patience import PATIENCE
from tfps.join.settings import ENGINES

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--kills", type=int, default=20, help="how often (default 20)")
  parser.add_argument(
    "--records", type=int, default=100_000, help="of the feature log (default 100,000)"
  )
  parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
  parser.add_argument("--topics", action="store_true", help="instead of files")
  parser.add_argument("--engine", choices=ENGINES, default="process")
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix="join-") as folder:
    folder = pathlib.Path(folder)
    if flags.topics:
      soak_partitions(folder, flags.kills, flags.records, flags.seed)
    else:
      soak(folder, flags.kills, flags.records, flags.seed, engine=flags.engine)


def soak(folder, kills, records, seed, **fields):
  """Kills a join that is fed file after file of each log, then compares with one plain join."""
  rng = random.Random(seed)
  features, actions = join_logs.make(records, seed)
  config = join_logs.config_file(
    folder, batch_bytes=40_000, poll=0.01, samples__records_per_file=500, **fields
  )
  seen = {}
  for log in ("features", "actions"):
    (folder / log).mkdir()
  for kill in range(kills):
    for log, rows in (("features", features), ("actions", actions)):
      begin, end = (len(rows) * part // kills for part in (kill, kill + 1))
      join_logs.write_json(folder / log, f"{kill:04d}", rows[begin:end])
    written = count(folder)
    kill_after(
      config, lambda: count(folder) > written or caught_up(folder, kill), rng.uniform(0, 0.4)
    )
    unchanged(folder, seen)
    print(f"  kill {kill + 1} of {kills}: {len(seen)} files are there", flush=True)
  finish(folder, config, kills, seen, features, actions)


def soak_partitions(folder, kills, records, seed):
  """The same from topics, each of whose partitions gets its records when chance has it."""
  import confluent_kafka

  rng = random.Random(seed)
  features, actions = join_logs.make(records, seed)
  producer = confluent_kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": ""})
  broker = next(iter(producer.list_topics(timeout=PATIENCE).brokers.values()))
  address = f"{broker.host}:{broker.port}"
  waiting = {}
  for log, rows in (("features", features), ("actions", actions)):
    made = producer.list_topics(log, timeout=PATIENCE).topics[log]
    for row in rows:
      waiting.setdefault((log, rng.choice(sorted(made.partitions))), []).append(row)
  topics = {f"{log}__topic": log for log in ("features", "actions")}
  topics |= {f"{log}__folder": "" for log in ("features", "actions")}
  config = join_logs.config_file(
    folder, batch_bytes=20_000, poll=0.01, samples__records_per_file=500, kafka__brokers=address,
    **topics,
  )  # fmt: skip
  seen = {}
  for kill in range(kills + 1):
    for (log, partition), rows in waiting.items():
      share = rng.choice([0, 0.1, 0.5, 1]) * 2 * len(rows) / (kills - kill + 1)
      count = len(rows) if kill == kills else min(len(rows), int(share))
      for row in rows[:count]:
        producer.produce(log, json.dumps(row).encode(), partition=partition)
        producer.poll(0)
      del rows[:count]
    if producer.flush(PATIENCE):
      raise AssertionError("the broker does not take messages")
    if kill < kills:
      committed = commits(folder)
      early = rng.random() < 0.2  # at a moment of its start
      kill_after(config, lambda: early or commits(folder) != committed, rng.uniform(0, 2))
      unchanged(folder, seen)
      print(f"  kill {kill + 1} of {kills}: {len(seen)} files are there", flush=True)
  finish(folder, config, kills, seen, features, actions)


def kill_after(config, is_ready, seconds):
  """Starts the join, and kills it so long after something holds."""
  process = start(config)
  try:
    wait(is_ready, process)
    time.sleep(seconds)
    if process.poll() is not None:
      raise AssertionError(f"the join ended by itself with {process.returncode}")
  finally:
    process.send_signal(signal.SIGKILL)
    process.wait()


def finish(folder, config, kills, seen, features, actions):
  """Joins the rest, and compares."""
  done = subprocess.run(
    [*command(config), "--once", "--close"], env=environment(), capture_output=True, text=True
  )
  if done.returncode:
    raise AssertionError(done.stderr)
  unchanged(folder, seen)
  samples = join_logs.read(folder / "samples")
  expected = join_logs.expected(features, actions)
  if len(samples) != len(dict(samples)) or dict(samples) != expected:
    wrong = [ids for ids in expected if dict(samples).get(ids) != expected[ids]]
    raise AssertionError(f"{len(samples)} samples of {len(expected)}, wrong or lost: {wrong[:10]}")
  print(
    f"{kills} kills: {len(samples):,} samples in {len(seen)} files; lost, doubled or changed: none"
  )


def unchanged(folder, seen):
  """A file that was there once stays as it was: somebody may have read it."""
  for path in (folder / "samples").glob("samples-*.tfrecord"):
    data = path.read_bytes()
    if seen.setdefault(path.name, data) != data:
      raise AssertionError(f"{path.name} changed")
  missing = [name for name in seen if not (folder / "samples" / name).exists()]
  if missing:
    raise AssertionError(f"{missing} went away")


def commits(folder):
  """Another value after each commit of the join; None before the first."""
  path = folder / "state" / "metrics.json"
  return path.stat().st_mtime_ns if path.exists() else None


def caught_up(folder, kill):
  path = folder / "state" / "metrics.json"
  return path.exists() and kill == 0  # the first files may close no window


def count(folder):
  return len(list((folder / "samples").glob("samples-*.tfrecord")))


def wait(ready, process):
  until = time.monotonic() + PATIENCE
  while not ready() and process.poll() is None:
    if time.monotonic() > until:
      raise AssertionError("the join did not go on")
    time.sleep(0.01)


def command(config):
  return [sys.executable, "-m", "tfps", "join", f"--config={config}"]


def environment():
  return os.environ | {"PYTHONPATH": str(ROOT)}


def start(config):
  return subprocess.Popen(
    command(config), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )


if __name__ == "__main__":
  main()
