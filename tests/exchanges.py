"""Requests to tables, as workers make them: look-ups and their pushes, pushes and pulls alone."""

import uuid

import numpy as np
import tensorflow as tf

from tfps import native

SHARDS = 8
BATCH = 40


def table(options="mf_dim=8;accessor.create_threshold=2"):
  return native.ops.tfps_table(
    shared_name=uuid.uuid4().hex, options=f"num_shards={SHARDS};{options}"
  )


def int64s(*values):
  return tf.constant(values, tf.int64, shape=[len(values)])


def statistics(handle):
  names, values = native.ops.tfps_statistics(table=handle)
  return dict(zip((name.decode() for name in names.numpy()), values.numpy().tolist()))


def exchange(handle, pushes=(), keys=(), row_width=9, **attributes):
  """Applies push messages and then pulls keys, in one request; the reply."""
  request = native.ops.tfps_make_request(
    keys=tf.cast(keys, tf.int64), pushes=tf.concat([tf.zeros([0], tf.uint8), *pushes], axis=0)
  )
  return native.ops.tfps_exchange(table=handle, request=request, row_width=row_width, **attributes)


def pull(handle, keys, row_width=9, references=True, wire_dtype=tf.float32):
  """The reply to a request without pushes."""
  return exchange(handle, (), keys, row_width, references=references, wire_dtype=wire_dtype)


def push(handle, *messages, accumulate=False):
  """A request without keys."""
  exchange(handle, messages, row_width=2, accumulate=accumulate)


def push_all(servers, messages, accumulate=False):
  """To each server its message."""
  for server, message in zip(servers, messages, strict=True):
    push(server, message, accumulate=accumulate)


class Lookup:
  """A random pull of a few slots from several servers, ready to be pushed."""

  def __init__(self, rng, servers, width=9, references=True, largest=300):
    slots, most = 3, 4
    ids = []
    row_splits = [0]
    for slot in range(slots):
      for _ in range(BATCH):
        bag = rng.integers(0, largest, rng.integers(0, most)) * (1 + slot % 2)  # 0 is padding
        ids.extend(bag)
        row_splits.append(len(ids))
    self.row_splits = np.array(row_splits)
    routed = native.ops.tfps_route(
      ids=int64s(*ids),
      slot_ends=self.row_splits[BATCH::BATCH],
      slot_ids=[5, 2, 7],
      assignment=np.arange(SHARDS, dtype=np.int32) % len(servers),
      num_servers=len(servers),
    )
    self.keys, self.slots, self.positions = routed
    self.pulled = [
      pull(server, keys, width, references) for server, keys in zip(servers, self.keys)
    ]
    rows = sum(len(keys) for keys in self.keys)
    self.gradients = rng.normal(size=[rows, width]).astype(np.float32)

  def counts(self, show, click):
    """The sums of `show` and `click` over each row's occurrences, taken in float64."""
    positions = self.positions.numpy()
    bags = np.repeat(np.arange(len(self.row_splits) - 1), np.diff(self.row_splits))
    examples = bags[positions >= 0] % BATCH
    return [
      np.bincount(
        positions[positions >= 0], values[examples], minlength=len(self.gradients)
      ).astype(np.float32)
      for values in (show, click)
    ]

  def by_server(self, columns):
    """For each server its parts of columns [U, ...]."""
    ends = np.cumsum([len(keys) for keys in self.keys])[:-1]
    return zip(*(np.split(column, ends) for column in columns))


def make_push(lookups, show, click, scale=1.0, step=(-1, 0, 0), wire_dtype=tf.float32, frozen=None):
  columns = [
    [part for lookup in lookups for part in getattr(lookup, name)]
    for name in ("keys", "slots", "pulled")
  ]
  return native.ops.tfps_make_push(
    *columns,
    positions=[lookup.positions for lookup in lookups],
    row_splits=[lookup.row_splits for lookup in lookups],
    gradients=[lookup.gradients for lookup in lookups],
    frozen=[False] * len(lookups) if frozen is None else frozen,
    show=np.float32(show),
    click=np.float32(click),
    scale=scale,
    step=int64s(*step),
    num_servers=len(lookups[0].keys),
    wire_dtype=wire_dtype,
  )


def good_push(**changed):
  """A table and what is pushed to it for two keys; `changed` are other arguments of the op."""
  handle = table()
  arguments = dict(
    keys=[int64s(1, 2)],
    slots=[[1, 1]],
    pulled=[pull(handle, int64s(1, 2))],
    positions=[[0, 1]],
    row_splits=[int64s(0, 1, 2)],
    gradients=[tf.zeros([2, 9])],
    frozen=[False],
    show=[1.0, 1.0],
    click=[0.0, 0.0],
    scale=1.0,
    step=int64s(0, 0, 0),
    num_servers=1,
  )
  return handle, native.ops.tfps_make_push(**(arguments | changed))
