"""Made-up logs for tests of the join, and what a plain join of the whole of them gives."""

import collections
import json
import random
import zlib

import pyarrow as pa
import pyarrow.parquet

from tfps.join.settings import default_config

BEGIN = 1_780_000_000
WAIT = {"click": 60.0, "like": 120.0, "dwell": 120.0}
CONFIG = """
import json
from tests.join_logs import config

def get_config():
  return config(**json.loads({!r}))
"""


def config(folder, **fields):
  """A join of folder/features and folder/actions to folder/samples."""
  made = default_config()
  made.features.folder = f"{folder}/features"
  made.actions.folder = f"{folder}/actions"
  made.samples.folder = f"{folder}/samples"
  made.state = f"{folder}/state"
  made.labels = {name: {"action": name, "wait": wait, "value": ""} for name, wait in WAIT.items()}
  if fields.get("policy") == "early":
    del made.labels["dwell"]
  else:
    made.labels.dwell.value = "max"
  made.disorder, made.remember, made.poll = 30.0, 100.0, 0.1
  for name, value in fields.items():
    target = made
    *groups, last = name.split("__")
    for group in groups:
      target = target[group]
    target[last] = value
  return made


def config_file(folder, **fields):
  """A file of its own for each config: a process loads a file once."""
  text = CONFIG.format(json.dumps({"folder": str(folder), **fields}))
  path = folder / f"join_{zlib.crc32(text.encode()):x}.py"
  path.write_text(text)
  return path


def make(records, seed=0):
  """(features, actions) in the order in which they arrive: up to 10 s of disorder, some twice."""
  rng = random.Random(seed)
  features, actions = [], []
  for i in range(records):
    time = BEGIN + i * 0.5
    ids = {"request_id": f"request-{i // 4}", "item_id": f"item-{i % 4}"}
    tags = [f"tag{j}" for j in range(rng.randrange(3))]
    features.append(
      {
        **ids,
        "time": time,
        "user_id": f"user{rng.randrange(50)}",
        "hour": i % 24,
        "score": i / 8,
        "tags": tags,
      }
    )
    for kind, probability, mean in (
      ("click", 0.3, 30),
      ("like", 0.1, 60),
      ("dwell", 0.3, 60),
      ("share", 0.1, 30),
    ):
      for _ in range(2):
        if rng.random() < probability:
          value = float(rng.randrange(100)) if kind == "dwell" else 0.0
          late = round(rng.expovariate(1 / mean), 3)
          actions.append({**ids, "time": time + late, "action": kind, "value": value})
  return tuple(
    sorted(
      (row for row in rows for _ in range(1 + (rng.random() < 0.05))),
      key=lambda row: row["time"] + 10 * rng.random(),
    )
    for rows in (features, actions)
  )


def write_json(folder, name, rows):
  """One file, there as a whole."""
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / f".{name}"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  path.rename(folder / name)


def write_parquet(folder, name, rows):
  folder.mkdir(parents=True, exist_ok=True)
  pa.parquet.write_table(pa.Table.from_pylist(rows), folder / f".{name}", row_group_size=100)
  (folder / f".{name}").rename(folder / name)


def expected(features, actions, labels=tuple(WAIT)):
  """{ids: sample as `read` gives it}, from all actions of a feature record, whenever they came."""
  of_ids = collections.defaultdict(set)
  for row in actions:
    of_ids[row["request_id"], row["item_id"]].add((row["time"], row["action"], row["value"]))
  samples = {}
  for row in features:
    ids = row["request_id"], row["item_id"]
    label, newest = {}, row["time"]
    for name in labels:
      counted = [
        a for a in of_ids[ids] if a[1] == name and -5 <= round(a[0] - row["time"], 3) <= WAIT[name]
      ]
      label[name] = max((a[2] if name == "dwell" else 1.0 for a in counted), default=0.0)
      newest = max([newest, *(a[0] for a in counted)])
    slots = {name: row[name] for name in ("user_id", "hour", "score", "tags")}
    samples[ids] = {
      **slots, "time": round(row["time"] * 1000), "label_time": round(newest * 1000), "show": 1.0,
      "weight": 1.0,
      "click": label["click"], **{f"label/{name}": value for name, value in label.items()},
      **{f"weight/{name}": 1.0 for name in labels},
    }  # fmt: skip
  return samples


def read(folder):
  """All samples in the files of a folder, as (ids, {feature: value}) in order."""
  import tensorflow as tf  # Not in the processes that join, which load their config from here.

  paths = sorted(folder.glob("samples-*.tfrecord"))
  assert [path.name for path in paths] == [f"samples-{i:012d}.tfrecord" for i in range(len(paths))]
  return [
    parse(record)
    for record in tf.data.TFRecordDataset([str(path) for path in paths]).as_numpy_iterator()
  ]


def parse(record):
  import tensorflow as tf

  features = tf.train.Example.FromString(record).features.feature
  row = {name: value_of(feature) for name, feature in features.items()}
  row["tags"] = row.get("tags", [])
  row["tags"] = row["tags"] if isinstance(row["tags"], list) else [row["tags"]]
  return (row.pop("request_id"), row.pop("item_id")), row


def value_of(feature):
  values = [
    v.decode() if isinstance(v, bytes) else v
    for v in getattr(feature, feature.WhichOneof("kind")).value
  ]
  return values[0] if len(values) == 1 else values
