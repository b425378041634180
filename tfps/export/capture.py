"""The rows of an export, copied at one moment on the parameter servers that have them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorflow as tf

from tfps import native
from tfps.export.predicates import Predicates
from tfps.storage.bundles import Slice

if TYPE_CHECKING:
  from tfps.table.feasign_table import FeasignTable, Server


class TableCapture:
  """What one table gives to an export. The rows stay on their servers.

  Make a capture when no ticket is running; it does not change the table. Call `commit` once the
  artifact is durable.

  Args:
    table: the table.
    which: "base" or "delta".

  Attributes:
    table: the table.
    rows: number of rows.

  Raises:
    tf.errors.FailedPreconditionError: a push came while the rows were copied.
    NonfiniteError: a row is not finite.
  """

  def __init__(self, table: FeasignTable, which: Literal["base", "delta"]) -> None:
    self.table = table
    self._which = which
    no_parts = [None] * len(table.servers)
    try:
      self._parts = self._on_servers(
        no_parts, lambda server, _: native.ops.tfps_capture(table=server.handle, which=which)
      )
    except tf.errors.DataLossError as error:
      raise table.nonfinite(error, which) from None
    self.rows = sum(self._lengths())

  @property
  def predicates(self) -> Predicates:
    """Which rows a base holds, for the manifest."""
    layouts = {slot: self.table.policy_of(slot).layout for slot in self.table.slot_policies}
    of_slots = {slot: layout.accessor for slot, layout in layouts.items()}
    return Predicates.of(self.table.accessor, of_slots)

  def streams(self) -> list[list[Slice]]:
    """The slices, each in a stream of its own: every server writes its own rows."""
    return [[one] for one in self.slices()]

  def slices(self) -> list[Slice]:
    """The rows of each server that has any."""
    slices, first = [], 0
    for server, part, length in zip(self.table.servers, self._parts, self._lengths()):
      if length:
        slices.append(Slice(server.device, first, part.keys, part.rows))
      first += length
    return slices

  def removed(self) -> np.ndarray:
    """int64 [r]: the keys that serving must drop, of all servers."""
    return np.concatenate([part.removed.numpy() for part in self._parts])

  def commit(self) -> None:
    """Marks the rows as served, and takes what was captured off their delta_score."""
    self._on_servers(
      self._parts,
      lambda server, part: native.ops.tfps_commit_capture(
        table=server.handle,
        keys=part.keys,
        delta_scores=part.delta_scores,
        removed=part.removed,
        which=self._which,
      ),
    )

  def _lengths(self) -> list[int]:
    return [part.keys.shape[0] for part in self._parts]

  def _on_servers(self, parts: list[Any], function: Callable[[Server, Any], Any]) -> list[Any]:
    """Calls function(server, part) for all servers at the same time."""
    servers = self.table.servers

    def on_server(server: Server, part: Any) -> Any:
      with tf.device(server.device):
        return function(server, part)

    with futures.ThreadPoolExecutor(len(servers)) as pool:
      return list(pool.map(on_server, servers, parts))
