"""An engine spread over several servers, all in this process: a FeasignTable as an Engine."""

import dataclasses

import numpy as np

import tfps
from tests import reference
from tests.checkpoints import make_table
from tests.engines import EvictedRows, Inspection, NativeEngine

_OPTIMIZERS = {
  "sgd": tfps.SGD,
  "adagrad": tfps.Adagrad,
  "std_adagrad": tfps.StdAdagrad,
  "adam": tfps.Adam,
  "ftrl": tfps.FTRL,
}


class ServersEngine(NativeEngine):
  """Each key goes to the server that the table's assignment names, and what is asked goes to all.

  Attributes:
    table: the FeasignTable.
  """

  def __init__(self, *, num_servers, engine="native", **settings):
    self._num_servers = num_servers
    self._engine = engine
    super().__init__(**settings)

  def _open(self):
    self.table = make_table(
      self._num_servers,
      **_policy(self.policy),
      slot_policies=self._slot_policies(),
      gradient_scale=self.gradient_scale,
      seed=self.seed,
      mf_init_range=self.mf_init_range,
      num_shards=self.num_shards,
      engine=self._engine,
    )

  def _slot_policies(self):
    # A table numbers its slots in the order of their names here.
    assert list(self.slots) == list(range(1, 1 + len(self.slots)))
    return {
      f"slot-{number}": tfps.SlotPolicy(**_policy(policy)) for number, policy in self.slots.items()
    }

  def close(self):
    del self.table

  def _servers(self):
    """One NativeEngine's view of each server's part."""
    for server in self.table.servers:
      view = object.__new__(NativeEngine)
      view.__dict__.update(self.__dict__, _table=server.handle)
      yield view

  def _server_of(self, keys):
    shards = [reference.virtual_shard(int(key), self.num_shards) for key in keys]
    return self.table.assignment[np.array(shards, int)]

  def pull(self, keys, width=None):
    keys = np.asarray(keys, np.int64)
    server_of = self._server_of(keys)
    rows = np.empty([len(keys), width or 1 + self.mf_dim], np.float32)
    for server, view in enumerate(self._servers()):
      rows[server_of == server] = view.pull(keys[server_of == server], width)
    return rows

  def push(self, keys, slots, show, click, gradients):
    server_of = self._server_of(keys)
    columns = [np.asarray(keys, np.int64), slots, show, click, gradients]
    for server, view in enumerate(self._servers()):
      view.push(*(np.asarray(column)[server_of == server] for column in columns))

  def push_messages(self, keys, slots, show, click, gradients, frozen):
    server_of = self._server_of(keys)
    columns = [np.asarray(keys, np.int64), slots, show, click, gradients, frozen]
    for server, view in enumerate(self._servers()):
      view.push_messages(*(np.asarray(column)[server_of == server] for column in columns))

  def push_read(self, keys, slots, show, click, gradients, readers, frozen, messages=0):
    server_of = self._server_of(keys)
    columns = [np.asarray(keys, np.int64), slots, show, click, gradients, readers, frozen]
    for server, view in enumerate(self._servers()):
      if (server_of == server).any():
        view.push_read(*(np.asarray(column)[server_of == server] for column in columns), messages)

  def set_learning_rates(self, rates, factor):
    for view in self._servers():
      view.set_learning_rates(rates, factor)

  def end_of_day(self, day):
    return self.table.end_of_day(day)

  def end_of_day_rows(self, day, announced=None, first_shard=0, last_shard=None):
    return self._concatenated("end_of_day_rows", day, announced, first_shard, last_shard)

  def evictable(self, day, first_shard=0, last_shard=None):
    return self._concatenated("evictable", day, first_shard, last_shard)

  def _concatenated(self, method, *arguments):
    parts = [getattr(view, method)(*arguments) for view in self._servers()]
    return EvictedRows(*(np.concatenate(columns) for columns in zip(*parts)))

  def count_evictable(self, day):
    total = {}
    for view in self._servers():
      for slot, count in view.count_evictable(day).items():
        total[slot] = total.get(slot, 0) + count
    return total

  def keys(self, first_shard=0, last_shard=None):
    return np.concatenate([view.keys(first_shard, last_shard) for view in self._servers()])

  def inspect(self, keys):
    parts = [view.inspect(keys) for view in self._servers()]
    columns = {}
    for name in Inspection._fields:
      columns[name] = getattr(parts[0], name).copy()
      for part in parts[1:]:
        columns[name][part.found] = getattr(part, name)[part.found]
    return Inspection(**columns)

  def statistics(self):
    return self.table.statistics()


def _policy(policy):
  """A reference Policy as the arguments of a table or a SlotPolicy."""
  return dict(
    mf_dim=policy.mf_dim,
    accessor=tfps.CtrAccessor(**dataclasses.asdict(policy.accessor)),
    optimizer=_optimizer(policy.mf),
    lr_optimizer=_optimizer(policy.lr),
  )


def _optimizer(settings):
  kind = _OPTIMIZERS[settings.optimizer]
  values = dataclasses.asdict(settings)
  if kind is tfps.FTRL:
    values["learning_rate"] = values["alpha"]
  values |= {name: values[name] or None for name in ("clipnorm", "clipvalue")}
  return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)})
