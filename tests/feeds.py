"""What the tests of a trainer's daily feed share: small files, and what plain Python chooses."""

import gzip
import pathlib

import tensorflow as tf

import tfps
from tfps.cli import config as cli_config

U64 = (1 << 64) - 1


def splitmix(state):
  state = (state + 0x9E3779B97F4A7C15) & U64
  for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
    state = ((state ^ (state >> shift)) * factor) & U64
  return state ^ (state >> 31)


def drawn(*numbers):
  """What docs/inputs.md says, in Python's integers: a number in [0, 1)."""
  state = 0
  for number in numbers:
    state = splitmix(state ^ (int(number) & U64))
  return (state >> 11) / 2**53


def lines_of(rng, count):
  """(user, click, weight) of each record."""
  return [(int(rng.integers(40)), int(rng.random() < 0.3), i + 1) for i in range(count)]


def write(path, records):
  text = "".join(f"{user},{click},{weight}\n" for user, click, weight in records).encode()
  path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
  return str(path)


def parse(lines):
  user, click, weight = tf.io.decode_csv(lines, [[0], [0.0], [0.0]])
  tags = tf.strings.split(tf.strings.as_string(user % 3), "")
  x = {"user": user, "w": weight, "tags": tags, "sparse": tags.to_sparse()}
  return x, click[:, tf.newaxis]


def dense(lines):
  x, y = parse(lines)
  return {"user": x["user"], "w": x["w"]}, y


def make(files, parse=parse, **settings):
  return tfps.data.source(files, parse, **{"batch_size": 3, "batches_per_ticket": 2, **settings})


def read(source, tickets=None):
  """The records of a source, batch by batch, and of each ticket how large its batches are."""
  records = []
  for ticket in source.tickets() if tickets is None else tickets:
    sizes = []
    for x, y, *weight in source.open(ticket):
      weight = weight[0] if weight else x["w"]
      rows = zip(x["user"].numpy(), y.numpy()[:, 0], weight.numpy())
      records += [tuple(int(value) for value in row) for row in rows]
      sizes.append(len(y))
      assert x["tags"].nrows() == x["sparse"].dense_shape[0] == len(y)
      assert x["tags"].to_list() == tf.RaggedTensor.from_sparse(x["sparse"]).to_list()
      assert [int(tag[0]) for tag in x["tags"].to_list()] == (x["user"].numpy() % 3).tolist()
    assert 0 not in sizes
    if not ticket.path.endswith(".gz"):
      assert sizes[:-1] == [source.batch_size] * (len(sizes) - 1)
  return records


def kept(records, rate, seed=0, day=0, epoch=0):
  return [
    record
    for number, record in enumerate(records)
    if record[1] or drawn(seed, 0, day, epoch, number) < rate
  ]


ROOT = pathlib.Path(__file__).resolve().parents[1]


def load(*overrides):
  defaults = ["--config.data.days=2", "--config.data.examples_per_day=6000"]
  return cli_config.load(str(ROOT / "configs" / "quickstart.py"), [*defaults, *overrides])
