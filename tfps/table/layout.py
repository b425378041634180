"""What a table's options say about the rows in its files: their widths and their policies."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping

import numpy as np

from tfps.table import optimizers
from tfps.table.accessor import CtrAccessor
from tfps.table.row import RowLayout, SlotLayout

_OPTIMIZERS = {
  optimizer.kind: optimizer
  for optimizer in (
    optimizers.SGD,
    optimizers.Adagrad,
    optimizers.StdAdagrad,
    optimizers.Adam,
    optimizers.FTRL,
  )
}


class Rows(typing.Protocol):
  """n rows in memory: what is read here of `tfps.checkpoint.rows.SavedRows`."""

  @property
  def keys(self) -> np.ndarray:
    """int64 [n], the feasigns."""

  @property
  def slots(self) -> np.ndarray:
    """int32 [n], the numbers of the slots that created them."""

  @property
  def statistics(self) -> np.ndarray:
    """float64 [n, 3]: show, click, delta_score."""

  @property
  def unseen_days(self) -> np.ndarray:
    """uint16 [n], whole days since the last push."""

  @property
  def admitted(self) -> np.ndarray:
    """bool [n]: which have an mf vector."""

  @property
  def floats(self) -> np.ndarray:
    """float32 [m], row after row."""

  @property
  def offsets(self) -> np.ndarray:
    """int64 [n + 1]: row i has floats[offsets[i] : offsets[i + 1]]."""


class TableLayout:
  """The options of a table as a checkpoint keeps them: "name=value;name=value".

  "slot.<number>.<name>" is a setting of the rows that this slot created. Settings that a slot does
  not have are those of the table, <name>.
  """

  def __init__(self, options: str) -> None:
    self._common: dict[str, str] = {}
    self._own: dict[int, dict[str, str]] = {}
    for pair in options.split(";"):
      name, value = pair.split("=", 1)
      if name.startswith("slot."):
        _, number, name = name.split(".", 2)
        self._own.setdefault(int(number), {})[name] = value
      else:
        self._common[name] = value
    self.num_shards = int(self._common["num_shards"])
    self._default = _slot_layout(self._common)
    self._slots = {number: _slot_layout(self._common | own) for number, own in self._own.items()}

  def slot(self, number: int | None) -> SlotLayout:
    """The complete `SlotLayout` of the slot with this number; None: of slots without their own."""
    return self._default if number is None else self._slots.get(number, self._default)

  def widths(self, slots: np.ndarray, admitted: np.ndarray) -> np.ndarray:
    """int64 [n], the number of floats of rows: slots int [n], admitted bool [n]."""
    widths = np.empty(len(slots), np.int64)
    for layout, where in self._parts(slots):
      widths[where] = layout.row.width(admitted[where])
    return widths

  def scores(self, rows: Rows) -> np.ndarray:
    """float64 [n]: the score of each row, by its slot's accessor."""
    scores = np.empty(len(rows.keys))
    for layout, where in self._parts(rows.slots):
      scores[where] = layout.accessor.score(*rows.statistics[where, :2].T)
    return scores

  def evictable(self, rows: Rows) -> np.ndarray:
    """bool [n]: which rows a day's end would evict, by their slots' accessors."""
    scores = self.scores(rows)
    due = np.empty(len(rows.keys), bool)
    for layout, where in self._parts(rows.slots):
      accessor = layout.accessor
      due[where] = (scores[where] < accessor.delete_threshold) | (
        rows.unseen_days[where] > accessor.delete_after_unseen_days
      )
    return due

  def in_base(self, rows: Rows) -> np.ndarray:
    """bool [n]: which rows a base export holds, by their slots' accessors."""
    held = np.empty(len(rows.keys), bool)
    for layout, where in self._parts(rows.slots):
      show, click, delta_score = rows.statistics[where].T
      unseen_days = rows.unseen_days[where]
      held[where] = layout.accessor.in_base(show, click, delta_score, unseen_days)
    return held

  def weights(self, rows: Rows, width: int) -> np.ndarray:
    """float32 [n, width], the part of each row that is served: lr_w, then mf_w or zeros."""
    weights = np.zeros([len(rows.keys), width], np.float32)
    first = rows.offsets[:-1]
    weights[:, 0] = rows.floats[first]
    for layout, where in self._parts(rows.slots):
      at = np.flatnonzero(where & rows.admitted)
      mf = np.arange(layout.row.mf_dim)
      weights[at[:, np.newaxis], 1 + mf] = rows.floats[
        (first[at] + layout.row.width(False))[:, np.newaxis] + mf
      ]
    return weights

  def _parts(self, slots: np.ndarray) -> Iterator[tuple[SlotLayout, np.ndarray]]:
    """Yields (layout, bool [n]: the rows that have it), for each layout."""
    others = np.ones(len(slots), bool)
    for number, layout in self._slots.items():
      where = slots == number
      others &= ~where
      yield layout, where
    yield self._default, others


def _slot_layout(options: Mapping[str, str]) -> SlotLayout:
  """The `SlotLayout` of {name: value}; its optimizers have default settings."""
  types = typing.get_type_hints(CtrAccessor)
  accessor = CtrAccessor(
    **{
      field.name: types[field.name](options[f"accessor.{field.name}"])
      for field in dataclasses.fields(CtrAccessor)
    }
  )
  lr, mf = (_OPTIMIZERS[options[f"{weight}.optimizer"]]() for weight in ("lr", "mf"))
  return SlotLayout(accessor, RowLayout(int(options["mf_dim"]), lr, mf))
