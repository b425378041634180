"""A table beside its NumPy reference, for tests of what fills new tables."""

import numpy as np

import tfps
from tests import reference
from tests.checkpoints import keys_of, make_table
from tfps.table import placement

KEYS = np.arange(1, 301) * 104729 * 7919
OPTIMIZERS = {"adagrad": tfps.Adagrad, "std_adagrad": tfps.StdAdagrad, "adam": tfps.Adam,
              "ftrl": tfps.FTRL, "sgd": tfps.SGD}  # fmt: skip
ACCESSOR = dict(create_threshold=1.0, delete_threshold=0.2)


def pair(mf="adam", lr="adagrad", mf_dim=3, accessor=(), **arguments):
  """(a table, the NumPy reference of the same settings)."""
  accessor = {**ACCESSOR, **dict(accessor)}
  table = make_table(
    mf_dim=mf_dim,
    accessor=tfps.CtrAccessor(**accessor),
    optimizer=OPTIMIZERS[mf](learning_rate=0.05),
    lr_optimizer=OPTIMIZERS[lr](learning_rate=0.05),
    **arguments,
  )
  judge = reference.ReferenceTable(
    mf_dim=mf_dim, accessor=reference.Accessor(**accessor), mf_init_range=0.5,
    lr=reference.Optimizer(lr), mf=reference.Optimizer(mf),
  )  # fmt: skip
  return table, judge


def push(table, judge, seed, keys=KEYS):
  """Pushes the same to both; a key's slot is the number key % 3 + 1."""
  rng = np.random.default_rng(seed)
  keys = np.sort(rng.choice(keys, 200, replace=False))
  show = rng.integers(1, 4, 200).astype(np.float32)
  click = rng.binomial(show.astype(int), 0.3).astype(np.float32)
  gradients = rng.normal(size=[200, table.row_width]).astype(np.float32)
  columns = (keys, (keys % 3 + 1).astype(np.int32), show, click, gradients)
  server = table.assignment[placement.virtual_shards(keys, table.num_shards)]
  table.push([[column[server == i] for column in columns] for i in range(table.num_servers)])
  judge.push(*columns)


def assert_is(table, judge):
  """The table holds the rows of the reference."""
  keys = np.array(judge.keys(), np.int64)
  np.testing.assert_array_equal(keys_of(table), keys)
  found = table.lookup(keys)
  rows = [judge.row(key) for key in keys]
  expected = {
    "slot": [row.slot for row in rows],
    "statistics": [(row.show, row.click, row.delta_score) for row in rows],
    "unseen_days": [row.unseen_days for row in rows],
    "admitted": [row.mf is not None for row in rows],
    "served": [row.served for row in rows],
    "lr_w": [row.lr[0][0] for row in rows],
    "lr_state": [row.lr[1] for row in rows],
    "mf_w": [row.mf[0] if row.mf else np.zeros(judge.mf_dim) for row in rows],
  }
  zeros = np.zeros(judge.policy.mf.state_size(judge.mf_dim))
  expected["mf_state"] = [row.mf[1] if row.mf else zeros for row in rows]
  for name, values in expected.items():
    np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=1e-7, err_msg=name)


def vectors_of(count, width, seed=0):
  return np.random.default_rng(seed).normal(size=[count, width]).astype(np.float32)


def expect(judge, slot, keys, values, show, click=0.0):
  """The rows of an import by the letter of the docs."""
  dim = judge.mf_dim
  for i, (key, value) in enumerate(zip(keys, values)):
    shows, clicks = (float(np.broadcast_to(part, len(keys))[i]) for part in (show, click))
    lr_w = value[:1] if len(value) > dim else np.zeros(1, np.float32)
    judge.rows[int(key)] = reference.Row(
      slot, (lr_w, judge.policy.lr.initial_state(1)),
      (value[-dim:], judge.policy.mf.initial_state(dim)),
      shows, clicks, judge.policy.accessor.score(shows, clicks),
    )  # fmt: skip
