"""The Keras callback that keeps the model of the best epoch, its rows and its dense weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfps.checkpoint.manager import CheckpointManager
from tfps.layers.embedding import tables_of
from tfps.training.callback import Callback
from tfps.training.position import Position

if TYPE_CHECKING:
  from tfps.export.exporter import Exporter
  from tfps.table.feasign_table import FeasignTable

_MODES = ("auto", "min", "max")


class BestCheckpoint(Callback):
  """Saves a checkpoint when an epoch's result is the best so far; only the best one is kept.

  It does what `keras.callbacks.ModelCheckpoint(save_best_only=True)` does and, with `restore`,
  `EarlyStopping(restore_best_weights=True)`, but for the tables' rows and the dense weights
  together, on a source as on arrays. A `CheckpointManager` and the commands of tfps read its
  checkpoints.

  Args:
    folder: where the checkpoint is, not that of a `Checkpoint`; every parameter server must reach
      it.
    monitor: the name of what is compared, as the history has it.
    mode: "min" or "max", which values are better; "auto" is "max" for names that end in acc,
      accuracy or auc, else "min".
    restore: when `fit` ends, go back to the best epoch. What `Checkpoint` saved at days' ends stays
      as it is, so that a run can go on from there.
    initial_value: save only what is better than this; by default the first epoch is the best yet.
    tables: the `tfps.FeasignTable`s; those of the model's `tfps.Embedding` layers by default.
    exporter: the `tfps.export.Exporter` whose lineage the checkpoint holds.

  Attributes:
    mode: "min" or "max".
    best: the best value; None before there is one.
    best_epoch: the number of its epoch; None before there is one.
    manager: the `CheckpointManager`, once `fit` has begun.

  Raises:
    ValueError: the mode is none, or (at the end of an epoch) there is no value of that name.
    LockError: when `fit` begins, and another process writes to the folder.

  Examples:
    >>> best = tfps.callbacks.BestCheckpoint("best", monitor="loss", restore=True)
    >>> history = model.fit(source, epochs=2, callbacks=[best], verbose=0)
    Back to epoch 1, the best by loss: best/checkpoint-2.
    >>> best.best == min(history.history["loss"])
    True
  """

  def __init__(
    self,
    folder: str,
    monitor: str = "val_loss",
    *,
    mode: str = "auto",
    restore: bool = False,
    initial_value: float | None = None,
    tables: Sequence[FeasignTable] | None = None,
    exporter: Exporter | None = None,
  ):
    super().__init__()
    if mode not in _MODES:
      raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(_MODES)}.")
    if mode == "auto":
      mode = "max" if monitor.endswith(("acc", "accuracy", "auc")) else "min"
    self.mode = mode
    self.best = initial_value
    self.best_epoch: int | None = None
    self.manager: CheckpointManager | None = None
    self._folder = str(folder)
    self._monitor = monitor
    self._sign = 1.0 if mode == "min" else -1.0
    self._restore = restore
    self._tables = tables
    self._exporter = exporter
    self._position: Position | None = None
    self._path: str | None = None  # The best checkpoint of this `fit`.

  def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
    tables = tables_of(self.model) if self._tables is None else self._tables
    self.manager = CheckpointManager(
      self._folder, self.model, tables, keep=1, exporter=self._exporter
    )
    self._path = None

  def on_moment(self, position: Position) -> None:
    self._position = position

  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    value = (logs or {}).get(self._monitor)
    if value is None:
      raise ValueError(
        f"BestCheckpoint compares '{self._monitor}', and the epoch has "
        f"{', '.join(logs or {}) or 'no values'}: name one of them as monitor; val_... needs "
        "validation_data."
      )
    # A value that is not a number is never better.
    is_better = self._sign * value < self._sign * (self._worst if self.best is None else self.best)
    if is_better:
      assert self.manager is not None  # `fit` has begun.
      # Only a source has days, and moments.
      calendar = {"epoch": epoch} if self._position is None else self._position.as_dict()
      self._path = self.manager.save(calendar)
      self.best, self.best_epoch = float(value), epoch

  def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
    assert self.manager is not None  # `fit` has begun.
    if self._restore and self._path is not None:
      self.manager.restore(self._path)
      print(f"Back to epoch {self.best_epoch}, the best by {self._monitor}: {self._path}.")
    self.manager.close()

  @property
  def _worst(self) -> float:
    return self._sign * float("inf")
