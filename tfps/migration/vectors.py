"""Rows of plain vectors: keys with values from elsewhere become admitted feasigns."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tfps.checkpoint.rows import ADMITTED, make_rows
from tfps.table.feasigns import feasign
from tfps.table.layout import TableLayout

if TYPE_CHECKING:
  from tfps.checkpoint.rows import SavedRows
  from tfps.table.accessor import CtrAccessor
  from tfps.table.feasign_table import FeasignTable

CHUNK_ROWS = 65_536
_LAST_RESERVED = -(2**63) + 1


@dataclasses.dataclass
class Imported:
  """Counts of an import's rows.

  Attributes:
    rows: how many are in the table now.
    admitted: how many of these own an mf vector.
    reserved: dropped, since their key is padding or reserved.
    repeated: dropped, since a row of their key was there already: the first one stays.
    nonfinite: dropped, since a NaN or an infinity is in their values, show or click.

  Examples:
    >>> print(tfps.migration.Imported(rows=301, admitted=301, repeated=2))
    301 rows, 301 admitted; dropped: 2 repeated
  """

  rows: int = 0
  admitted: int = 0
  reserved: int = 0
  repeated: int = 0
  nonfinite: int = 0

  def __str__(self) -> str:
    dropped = {name: getattr(self, name) for name in ("reserved", "repeated", "nonfinite")}
    told = [f"{count:,} {name}" for name, count in dropped.items() if count]
    more = f"; dropped: {', '.join(told)}" if told else ""
    return f"{self.rows:,} rows, {self.admitted:,} admitted{more}"


class VectorWriter:
  """Puts keys with vectors into one slot of a table, as admitted feasigns without any step.

  Args:
    table: the `tfps.FeasignTable`.
    slot: the slot's name.
    feasigns: the keys are feasigns already; otherwise values of the slot, of which `tfps.feasign`
      makes them.

  Attributes:
    imported: the `Imported` so far.
    mf_dim: of the slot.
  """

  def __init__(self, table: FeasignTable, slot: str, feasigns: bool) -> None:
    self._table = table
    self._name = slot
    self._feasigns = feasigns
    self._number = table.slot_id(slot)
    self._layout = TableLayout(table.options)
    self._slot = self._layout.slot(self._number)
    self.imported = Imported()
    self.mf_dim = self._slot.row.mf_dim

  def check(self, what: str, key_dtype: np.dtype, width: int) -> None:
    """Raises ValueError if keys of `key_dtype`, or values of `width` floats, cannot be put in."""
    if self._feasigns and key_dtype.kind not in "iu":
      raise ValueError(f"{what}: feasigns are integers, but the keys are {key_dtype}.")
    if width not in (self.mf_dim, 1 + self.mf_dim):
      raise ValueError(
        f"{what}: a value has {width} floats, but slot '{self._name}' of table "
        f"'{self._table.name}' has mf_dim {self.mf_dim}: give {self.mf_dim} floats, or "
        f"{1 + self.mf_dim} with lr_w before them."
      )

  def write(
    self,
    keys: npt.ArrayLike,
    values: npt.ArrayLike,
    show: npt.ArrayLike | None = None,
    click: npt.ArrayLike | None = None,
  ) -> None:
    """Puts some rows in.

    Args:
      keys: [n] integers or strings.
      values: float [n, mf_dim], or [n, 1 + mf_dim] with lr_w first; lr_w is 0 otherwise.
      show, click: [n]. By default, the shows with which a feasign is admitted and survives the next
        day's end, and no clicks.
    """
    ids = self._keys(np.asarray(keys))
    vectors = np.asarray(values, np.float32)
    if show is None:
      show, default_click = shows_to_stay(self._slot.accessor)
      click = default_click if click is None else click
    counts = np.zeros([len(ids), 2])
    counts[:, 0], counts[:, 1] = show, 0 if click is None else click
    finite = np.isfinite(vectors).all(axis=1) & np.isfinite(counts).all(axis=1)
    there = (ids != 0) & (ids > _LAST_RESERVED)
    self.imported.reserved += int((~there).sum())
    self.imported.nonfinite += int((there & ~finite).sum())
    new = self._new(ids, there & finite)
    self.imported.rows += len(new)
    self.imported.admitted += len(new)
    self._table.upsert(*self._rows(ids[new], vectors[new], counts[new]))

  def _keys(self, keys: np.ndarray) -> np.ndarray:
    if self._feasigns:
      return keys.view(np.int64) if keys.dtype == np.uint64 else keys.astype(np.int64)
    return feasign(self._name, keys).numpy()

  def _new(self, keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The positions of the keys that are `wanted`, for the first time, and not in the table yet."""
    positions = np.flatnonzero(wanted)
    _, first = np.unique(keys[positions], return_index=True)
    new = positions[np.sort(first)]
    new = new[~self._table.lookup(keys[new])["found"]]
    self.imported.repeated += len(positions) - len(new)
    return new

  def _rows(self, keys: np.ndarray, values: np.ndarray, counts: np.ndarray) -> SavedRows:
    lr_w = values[:, 0] if values.shape[1] > self.mf_dim else np.zeros(len(keys))
    floats = self._slot.row.join({"lr_w": lr_w, "mf_w": values[:, -self.mf_dim :]})
    scores = self._slot.accessor.score(*counts.T)
    return make_rows(
      keys,
      np.full(len(keys), self._number, np.int32),
      np.stack([*counts.T, scores], axis=1),
      np.zeros(len(keys), np.uint16),
      np.full(len(keys), ADMITTED, np.uint16),
      floats.reshape(-1),
      self._layout,
    )


def shows_to_stay(accessor: CtrAccessor) -> tuple[float, float]:
  """Returns the show and click of a feasign just admitted that the next day's end keeps."""
  score = max(accessor.create_threshold, accessor.delete_threshold, 0.0)
  if accessor.nonclk_coeff > 0:
    show, click = score / accessor.nonclk_coeff, 0.0
  elif accessor.clk_coeff > 0:
    show = click = score / accessor.clk_coeff
  else:
    show = click = 0.0
  while show and accessor.score(show, click) < score:  # because of rounding
    show, click = math.nextafter(show, math.inf), math.nextafter(click, math.inf) if click else 0.0
  return show, click
