"""A step with histories of 50 and 500 ids: keys, bytes and time, of as many distinct ids or more.

The histories read the items' rows and are averaged; the only other slot is the item. Bytes are
those of a step's messages from and to one parameter server, times those of `Model.train_on_batch`
in one process, in turn.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import harness
import numpy as np
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.layers.exchange import Direct

MOST_BYTES_RATIO = 1.001


class Clicks(tfps.Model):
  """A small tower over an item and the mean of a history."""

  def __init__(self, table):
    super().__init__()
    self.embedding = tfps.Embedding(table, ["item", "history"], "mean", share={"history": "item"})
    self.tower = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])

  def call(self, features, training=None):
    embedded = self.embedding(features, training=training)
    return tf.sigmoid(embedded.lr_logit + self.tower(tf.concat(tf.unstack(embedded.mf, axis=1), 1)))


class Counted(Direct):
  """Pulls and pushes as in one process, and counts the bytes."""

  def __init__(self):
    self.asked = self.pulled = self.pushed = 0

  def fetch(self, *arguments):
    rows = super().fetch(*arguments)
    self.asked += sum(keys.dtype.size * int(tf.size(keys)) for keys in rows.route.keys)
    self.pulled += sum(int(tf.size(reply)) for reply in rows.replies)
    return rows

  def push(self, table, messages, gradients):
    self.pushed += sum(int(tf.size(message)) for message in messages)
    super().push(table, messages, gradients)


class Training:
  """A table whose rows are all admitted, a model and a batch."""

  def __init__(self, flags, length, distinct):
    rng = np.random.default_rng(flags.seed)
    items = rng.choice(flags.items, distinct, replace=False) + 1
    ids = {"item": rng.choice(items[: flags.distinct], flags.batch_size)}
    history = rng.permutation(np.resize(items, flags.batch_size * length))
    ids["history"] = history.reshape(flags.batch_size, length)
    self.table = tfps.FeasignTable(
      "lengths", mf_dim=8, accessor=tfps.CtrAccessor(create_threshold=0)
    )
    self.model = Clicks(self.table)
    self.model.compile("adam", "binary_crossentropy")
    self.x = {slot: tfps.feasign("item", tf.constant(of_slot)) for slot, of_slot in ids.items()}
    self.y = tf.constant(rng.integers(0, 2, [flags.batch_size, 1]), tf.float32)
    # Each was shown before: a history makes no rows.
    keys = tfps.feasign("item", tf.constant(items)).numpy()
    slots = np.full(distinct, self.table.slot_id("item"), np.int32)
    ones, zeros = np.ones(distinct, np.float32), np.zeros([distinct, 9], np.float32)
    self.table.push([(keys, slots, ones, ones, zeros)])

  def step(self):
    self.model.train_on_batch(self.x, self.y)

  def measure(self):
    """The keys and bytes of a step."""
    before = self.table.statistics()
    with Counted() as counted:
      self.model.train_step((self.x, self.y))
    after = self.table.statistics()
    keys = {name: after[name] - before[name] for name in ("pulled_keys", "pushed_keys")}
    return {
      **keys, "asked_bytes": counted.asked, "pulled_bytes": counted.pulled,
      "pushed_bytes": counted.pushed,
    }  # fmt: skip


def main():
  flags = harness.parser(__doc__)
  flags.add_argument("--batch_size", type=int, default=512)
  flags.add_argument("--lengths", type=int, nargs=2, default=[50, 500], help="ids of a history")
  flags.add_argument("--distinct", type=int, default=5_000, help="distinct ids of a batch")
  flags.add_argument("--items", type=int, default=1_000_000, help="what ids are drawn from")
  flags.add_argument("--repeats", type=int, default=20, help="steps that count")
  flags.add_argument("--seed", type=int, default=0)
  args = flags.parse_args()
  short, long = args.lengths
  cases = [(short, args.distinct), (long, args.distinct), (long, args.distinct * long // short)]
  trainings = {case: Training(args, *case) for case in cases}
  taken = harness.interleaved_seconds(
    {case: training.step for case, training in trainings.items()}, args.repeats, 3
  )
  rows = []
  for (length, distinct), training in trainings.items():
    row = {"ids of a history": length, "distinct": distinct, **training.measure()}
    rows.append(row | {"step_s": taken[length, distinct]})
  bytes_of = lambda row: row["asked_bytes"] + row["pulled_bytes"] + row["pushed_bytes"]
  goals = [
    harness.Goal(
      f"bytes of {long} ids by those of {short}, as many distinct",
      bytes_of(rows[1]) / bytes_of(rows[0]),
      MOST_BYTES_RATIO,
    )
  ]
  return harness.report(args, f"Histories, batch {args.batch_size}, mf_dim 8", rows, goals)


if __name__ == "__main__":
  sys.exit(main())
