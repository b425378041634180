"""What a table's options say about the rows in its files: their widths and policies."""

import dataclasses

import numpy as np

from tfps.table import optimizers
from tfps.table.accessor import CtrAccessor

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


@dataclasses.dataclass(frozen=True)
class SlotLayout:
  """The rows of one slot.

  Attributes:
    mf_dim: length of the mf vector.
    lr_floats: floats of `lr_w` and its optimizer state, which every row has.
    mf_floats: floats of `mf_w` and its optimizer state, which an admitted row has, too.
    accessor: the `CtrAccessor` of the slot.
    lr_optimizer, mf_optimizer: the sparse optimizers, of their kind; their settings are the defaults.
  """

  mf_dim: int
  lr_floats: int
  mf_floats: int
  accessor: CtrAccessor
  lr_optimizer: optimizers.SparseOptimizer
  mf_optimizer: optimizers.SparseOptimizer

  def split(self, floats):
    """The parts of a row's floats: {"lr_w", "lr_state" [.]}, if admitted "mf_w" and "mf_state"."""
    parts = {"lr_w": floats[0], "lr_state": floats[1 : self.lr_floats]}
    if len(floats) > self.lr_floats:
      mf = floats[self.lr_floats :]
      parts |= {"mf_w": mf[: self.mf_dim], "mf_state": mf[self.mf_dim :]}
    return parts


class TableLayout:
  """The options of a table as a checkpoint keeps them: "name=value;name=value".

  "slot.<number>.<name>" is the setting of the rows that this slot created; what a slot does not
  set it takes from <name>.
  """

  def __init__(self, options):
    self._common, self._own = {}, {}
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

  def slot(self, number):
    """The `SlotLayout` of a slot."""
    return self._slots.get(number, self._default)

  def widths(self, slots, admitted):
    """How many floats rows have: slots int [n], admitted bool [n]; int64 [n]."""
    widths = np.empty(len(slots), np.int64)
    for layout, where in self._parts(slots):
      widths[where] = layout.lr_floats + layout.mf_floats * admitted[where]
    return widths

  def scores(self, rows):
    """The score of each of the `SavedRows`, by its slot's accessor: float64 [n]."""
    scores = np.empty(len(rows.keys))
    for layout, where in self._parts(rows.slots):
      scores[where] = layout.accessor.score(*rows.statistics[where, :2].T)
    return scores

  def evictable(self, rows):
    """Which of the `SavedRows` a day's end would evict, by their slots' accessors: bool [n]."""
    scores = self.scores(rows)
    due = np.empty(len(rows.keys), bool)
    for layout, where in self._parts(rows.slots):
      accessor = layout.accessor
      due[where] = (scores[where] < accessor.delete_threshold) | (
        rows.unseen_days[where] > accessor.delete_after_unseen_days
      )
    return due

  def in_base(self, rows):
    """Which of the `SavedRows` a base export holds, by their slots' accessors: bool [n]."""
    held = np.empty(len(rows.keys), bool)
    for layout, where in self._parts(rows.slots):
      held[where] = layout.accessor.in_base(*rows.statistics[where].T, rows.unseen_days[where])
    return held

  def weights(self, rows, width):
    """What serving needs of the `SavedRows`, float32 [n, width]: lr_w, then mf_w or zeros."""
    weights = np.zeros([len(rows.keys), width], np.float32)
    first = rows.offsets[:-1]
    weights[:, 0] = rows.floats[first]
    for layout, where in self._parts(rows.slots):
      at = np.flatnonzero(where & rows.admitted)
      mf = np.arange(layout.mf_dim)
      weights[at[:, np.newaxis], 1 + mf] = rows.floats[
        (first[at] + layout.lr_floats)[:, np.newaxis] + mf
      ]
    return weights

  def _parts(self, slots):
    """(SlotLayout, bool [n]) for the rows of the slots that have their own, and for the others."""
    others = np.ones(len(slots), bool)
    for number, layout in self._slots.items():
      where = slots == number
      others &= ~where
      yield layout, where
    yield self._default, others


def _slot_layout(options):
  mf_dim = int(options["mf_dim"])
  accessor = {
    field.name: field.type(options[f"accessor.{field.name}"])
    for field in dataclasses.fields(CtrAccessor)
  }
  lr, mf = (_OPTIMIZERS[options[f"{weight}.optimizer"]]() for weight in ("lr", "mf"))
  return SlotLayout(
    mf_dim, 1 + lr.state_size(1), mf_dim + mf.state_size(mf_dim), CtrAccessor(**accessor), lr, mf
  )
