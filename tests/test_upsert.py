"""Whole rows put into a table from outside."""

import numpy as np
import pytest
import tensorflow as tf

import tfps
from tests.checkpoints import KEYS, assert_same, keys_of, make_table, push


def rows_of(table, keys):
  """What `upsert` takes, read back from a table with optimizers of one float of state."""
  found = table.lookup(keys)
  floats, offsets = [], [0]
  for i in range(len(keys)):
    names = ["lr_w", "lr_state", *(["mf_w", "mf_state"] if found["admitted"][i] else [])]
    floats += [np.atleast_1d(found[name][i]) for name in names]
    offsets.append(offsets[-1] + sum(len(part) for part in floats[-len(names) :]))
  return dict(
    keys=keys,
    slots=found["slot"],
    statistics=found["statistics"],
    unseen_days=found["unseen_days"],
    flags=found["admitted"].astype(np.uint16),
    floats=np.concatenate(floats),
    offsets=offsets,
  )


@pytest.mark.parametrize("num_servers", [1, 3])
def test_rows_go_in_and_over_what_was_there(num_servers):
  table = make_table(2, optimizer=tfps.Adagrad())
  push(table, KEYS, seed=1)
  table.end_of_day(0)
  keys = keys_of(table)
  other = make_table(num_servers, optimizer=tfps.Adagrad())
  push(other, keys[::2], seed=2)
  other.upsert(**rows_of(table, keys))
  assert_same(table, other)
  assert other.statistics()["admitted"] == table.statistics()["admitted"] > 0
  # They are where their pushes go.
  for one in (table, other):
    push(one, keys, seed=3)
  assert_same(table, other)


def test_what_is_wrong_is_said():
  table = make_table(optimizer=tfps.Adagrad())
  row = dict(slots=[1], statistics=[[1, 0, 0.1]], unseen_days=[0])
  with pytest.raises(tf.errors.InvalidArgumentError, match="padding or reserved"):
    table.upsert(keys=[0], flags=[0], floats=[0, 0], offsets=[0, 2], **row)
  with pytest.raises(tf.errors.InvalidArgumentError, match="come with 2 floats.*make that 6"):
    table.upsert(keys=[5], flags=[1], floats=[0, 0], offsets=[0, 2], **row)
  assert table.statistics()["rows"] == 0
