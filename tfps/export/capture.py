"""The rows of an export, copied at a moment on the parameter servers that have them."""

from concurrent import futures

import numpy as np
import tensorflow as tf

from tfps import native


class TableCapture:
  """What one table gives to an export. The rows stay on their servers.

  Make it when no ticket is running; that changes nothing. `commit` once the artifact is durable.

  Args:
    table: the `tfps.FeasignTable`.
    which: "base" or "delta".

  Attributes:
    table: the table.
    rows: number of rows.

  Raises:
    tf.errors.FailedPreconditionError: the table was pushed to meanwhile.
  """

  def __init__(self, table, which):
    self.table = table
    self._which = which
    self._parts = self._on_servers(
      lambda server, _: native.ops.tfps_capture(table=server.handle, which=which)
    )
    self.rows = sum(self._lengths())

  def slices(self):
    """[(device, first row, keys int64 [n], rows float32 [n, row_width])] of servers that have any."""
    slices, first = [], 0
    for server, part, length in zip(self.table.servers, self._parts, self._lengths()):
      if length:
        slices.append((server.device, first, part.keys, part.rows))
      first += length
    return slices

  def removed(self):
    """int64 array: the keys that serving is to drop, of all servers."""
    return np.concatenate([part.removed.numpy() for part in self._parts])

  def commit(self):
    """The artifact is durable: what was captured leaves delta_score, and its rows are served."""
    self._on_servers(
      lambda server, part: native.ops.tfps_commit_capture(
        table=server.handle,
        keys=part.keys,
        delta_scores=part.delta_scores,
        removed=part.removed,
        which=self._which,
      )
    )

  def _lengths(self):
    return [part.keys.shape[0] for part in self._parts]

  def _on_servers(self, function):
    """function(server, its part) of all servers, at once."""
    servers = self.table.servers
    parts = getattr(self, "_parts", [None] * len(servers))

    def on_server(server, part):
      with tf.device(server.device):
        return function(server, part)

    with futures.ThreadPoolExecutor(len(servers)) as pool:
      return list(pool.map(on_server, servers, parts))
