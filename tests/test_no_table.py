"""No op makes a table: on one that is gone, as after a server's end, it fails and makes none."""

import uuid

import numpy as np
import pytest
import tensorflow as tf

from tests.exchanges import exchange, int64s, statistics
from tfps import native

OPTIONS = "num_shards=8;mf_dim=8"


def _table(name):
  return native.ops.tfps_table(shared_name=name, options=OPTIONS)


def _uses(handle):
  """{what is done: a function that does it to the table}."""
  ops, shards = native.ops, {"first_shard": 0, "last_shard": 8}
  part = (int64s(7), tf.constant([1]), tf.ones([1]), tf.zeros([1]), tf.zeros([1, 9]))
  return {
    "pull": lambda: ops.tfps_pull(table=handle, keys=int64s(7), row_width=9),
    "push": lambda: ops.tfps_push(handle, *part),
    "exchange": lambda: exchange(handle, (), [7]),
    "apply": lambda: ops.tfps_apply_accumulated(table=handle),
    "clock": lambda: ops.tfps_clock(table=handle),
    "set clock": lambda: ops.tfps_set_clock(table=handle, finished_below=tf.constant(1, tf.int64)),
    "set learning rates": lambda: ops.tfps_set_learning_rates(
      table=handle, rates=np.zeros([0, 2], np.float32), factor=1.0
    ),
    "end of day": lambda: ops.tfps_end_of_day(table=handle, day=tf.constant(1, tf.int64)),
    "statistics": lambda: statistics(handle),
    "keys": lambda: ops.tfps_keys(table=handle, **shards),
    "save": lambda: ops.tfps_save(
      table=handle, prefix="ram://nowhere", table_name="ctr", shards=[0], only_touched=False
    ),
    "restore": lambda: ops.tfps_restore(
      table=handle, prefix="ram://nowhere", table_name="ctr", shards=[0], saved_slots=[], slots=[]
    ),
    "capture": lambda: ops.tfps_capture(table=handle, slots=np.zeros(0, np.int32), which="base"),
    "upsert": lambda: ops.tfps_upsert(
      table=handle, keys=int64s(7), slots=[1], statistics=np.ones([1, 3]), unseen_days=np.zeros(1,
      np.uint16),
      flags=np.zeros(1, np.uint16), floats=np.zeros(2, np.float32),
    ),
  }  # fmt: skip


@pytest.mark.parametrize("use", _uses(None))
def test_what_is_done_to_a_table_that_is_gone_fails_and_makes_none(use):
  name = uuid.uuid4().hex
  handle = _table(name)
  native.ops.tfps_push(handle, int64s(7), [1], tf.ones([1]), tf.zeros([1]), tf.zeros([1, 9]))
  tf.raw_ops.DestroyResourceOp(resource=handle)
  with pytest.raises(tf.errors.NotFoundError, match="does not exist"):
    _uses(handle)[use]()
  # None was made: the name is free for a table of other options, without rows.
  other = native.ops.tfps_table(shared_name=name, options="num_shards=4;mf_dim=2")
  assert statistics(other)["rows"] == 0
