"""The rows of an export, copied at one moment on the parameter servers that have them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent import futures
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorflow as tf

from tfps import native
from tfps.export.predicates import Predicates
from tfps.storage.bundles import Slice

if TYPE_CHECKING:
  from tfps.table.feasign_table import FeasignTable, Server

_UNKNOWN_SLOT = -1  # Of removals in checkpoints of tfps 0.1: each artifact has these.


class TableCapture:
  """What one table gives to an export. The rows stay on their servers.

  Make a capture when no ticket is running; it does not change the table. Call `commit` once every
  artifact that has rows of it is durable.

  Args:
    table: the table.
    which: "base" or "delta".
    slots: the names of the slots whose rows are wanted; all rows by default.
    counts: whether each row has two more floats, its show and click.

  Attributes:
    table: the table.
    parts: for each server what the op TfpsCapture returned.
    rows: number of rows.

  Raises:
    tf.errors.FailedPreconditionError: a push came while the rows were copied.
    NonfiniteError: a row is not finite.
  """

  def __init__(
    self,
    table: FeasignTable,
    which: Literal["base", "delta"],
    slots: Collection[str] | None = None,
    counts: bool = False,
  ) -> None:
    self.table = table
    self._which = which
    numbers = np.array([table.slots[slot] for slot in slots or ()], np.int32)
    try:
      self.parts = self.on_servers(
        [None] * len(table.servers),
        lambda server, _: native.ops.tfps_capture(
          table=server.handle, slots=tf.constant(numbers), which=which, counts=counts
        ),
      )
    except tf.errors.DataLossError as error:
      raise table.nonfinite(error, which) from None
    self.rows = sum(part.keys.shape[0] for part in self.parts)

  def slices(self) -> list[Slice]:
    """The rows of each server that has any."""
    slices, first = [], 0
    for server, part in zip(self.table.servers, self.parts):
      length = part.keys.shape[0]
      if length:
        slices.append(Slice(server.device, first, part.keys, part.rows))
      first += length
    return slices

  def removed(self) -> np.ndarray:
    """int64 [r]: the keys that serving must drop, of all servers."""
    return np.concatenate([part.removed.numpy() for part in self.parts])

  def commit(self) -> None:
    """Marks the rows as served, and takes what was captured off their delta_score."""
    self.on_servers(
      self.parts,
      lambda server, part: native.ops.tfps_commit_capture(
        table=server.handle,
        keys=part.keys,
        slots=part.row_slots,
        delta_scores=part.delta_scores,
        removed=part.removed,
        which=self._which,
      ),
    )

  def on_servers(self, parts: list[Any], function: Callable[[Server, Any], Any]) -> list[Any]:
    """function(server, part) for each server, on its device, all at the same time."""
    servers = self.table.servers

    def on_server(server: Server, part: Any) -> Any:
      with tf.device(server.device):
        return function(server, part)

    with futures.ThreadPoolExecutor(len(servers)) as pool:
      return list(pool.map(on_server, servers, parts))


class SlotRows:
  """What one artifact has of a capture: the rows of some slots, chosen on their servers.

  Args:
    capture: a capture of these slots and perhaps others.
    slots: their names.
    row_width: floats of a row, the first ones of what was captured.

  Attributes:
    table, row_width: the table, and the argument.
    slots: {name: number} of these slots.
    rows: number of rows.
  """

  def __init__(self, capture: TableCapture, slots: Collection[str], row_width: int) -> None:
    self.table, self.row_width = capture.table, row_width
    self.slots = {slot: self.table.slots[slot] for slot in sorted(slots)}
    self._parts = capture.parts
    self._chosen = capture.on_servers(capture.parts, lambda _, part: self._choose(part.row_slots))
    counts = capture.on_servers(self._chosen, lambda _, chosen: tf.math.count_nonzero(chosen))
    self._lengths = [int(count) for count in counts]
    self.rows = sum(self._lengths)

  @property
  def predicates(self) -> Predicates:
    """Which rows a base holds, for the manifest."""
    own = [slot for slot in self.table.slot_policies if slot in self.slots]
    of_slots = {slot: self.table.policy_of(slot).layout.accessor for slot in own}
    return Predicates.of(self.table.accessor, of_slots)

  def streams(self) -> list[Iterator[Slice]]:
    """The slices, each in a stream of its own: every server writes its own rows."""
    firsts = np.cumsum([0, *self._lengths])
    return [
      self._stream(number, int(first))
      for number, (first, length) in enumerate(zip(firsts, self._lengths))
      if length
    ]

  def removed(self) -> np.ndarray:
    """int64 [r]: the keys that the artifact's servers must drop."""
    numbers = [*self.slots.values(), _UNKNOWN_SLOT]
    return np.concatenate([
      part.removed.numpy()[np.isin(part.removed_slots.numpy(), numbers)] for part in self._parts
    ])  # fmt: skip

  def _choose(self, row_slots: tf.Tensor) -> tf.Tensor:
    """bool [n]: which rows are of these slots."""
    known = np.zeros(max(self.table.slots.values()) + 1, bool)
    known[list(self.slots.values())] = True
    return tf.gather(tf.constant(known), row_slots)

  def _stream(self, number: int, first: int) -> Iterator[Slice]:
    keys, rows = self._parts[number].keys, self._parts[number].rows
    device = self.table.servers[number].device
    with tf.device(device):
      if rows.shape[1] > self.row_width:
        rows = rows[:, : self.row_width]
      if self._lengths[number] < keys.shape[0]:
        keys, rows = (tf.boolean_mask(column, self._chosen[number]) for column in (keys, rows))
    yield Slice(device, first, keys, rows)
