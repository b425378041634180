"""What would keep, copy or bring back a model without its tables' rows, refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfps.graph import compat
from tfps.layers.embedding import tables_of

_INSTEAD = (
  "keep it with tfps.callbacks.Checkpoint or tfps.checkpoint.CheckpointManager, serve it with "
  "tfps.callbacks.BaseExport, keep its dense weights alone with model.save_weights, or make "
  "another one with the code that made it"
)


@compat.never_in_saved_model
class WithoutRows:
  """The methods of a `keras.Model` that would leave out the rows of the model's tables.

  A model without tables has Keras's own. The rows are on the parameter servers, where Keras's
  formats do not reach.
  """

  name: str

  def save(self, *args: Any, **kwargs: Any) -> None:
    """Refused if the model has tables; else `keras.Model.save`."""
    self._check_whole("model.save")
    super().save(*args, **kwargs)  # type: ignore[misc]

  def export(self, *args: Any, **kwargs: Any) -> Any:
    """Refused if the model has tables; else `keras.Model.export`."""
    self._check_whole("model.export")
    return super().export(*args, **kwargs)  # type: ignore[misc]

  def get_config(self) -> dict[str, Any]:
    """Refused if the model has tables, unless a subclass overrides it."""
    self._check_whole("a Keras config (of get_config, to_json, clone_model or a saved model)")
    return super().get_config()  # type: ignore[misc]

  def get_compile_config(self) -> dict[str, Any]:
    """Called by Keras when it saves a model or makes it bytes."""
    self._check_whole("Keras's format")
    return super().get_compile_config()  # type: ignore[misc]

  def check_saved_model(self) -> None:
    """Called before Keras saves the model in a SavedModel: refused if it has tables."""
    self._check_whole("a SavedModel")

  def __reduce__(self) -> Any:
    self._check_whole("a pickle")
    return super().__reduce__()

  def __deepcopy__(self, memo: Any) -> Any:
    self._check_whole("a copy")
    return super().__deepcopy__(memo)  # type: ignore[misc]

  def _check_whole(self, what: str) -> None:
    tables = tables_of(self)
    if tables:
      raise NotImplementedError(
        f"{what} would leave out the rows of {_named(tables)}, which model '{self.name}' reads: "
        f"{_INSTEAD}."
      )


def check_callbacks(model: keras.Model, callbacks: Any, on_source: bool = False) -> None:
  """Raises ValueError if one of the callbacks would keep or bring back only a part of a run.

  Args:
    model: the model; if it has no tables, its dense weights are all of it.
    callbacks: those of a `fit` or an `evaluate`: a list, a single one, a `CallbackList` or None.
    on_source: whether the run is on a source, in which it has a position.
  """
  tables = tables_of(model)
  if isinstance(callbacks, keras.callbacks.CallbackList):
    callbacks = callbacks.callbacks
  for callback in tf.nest.flatten(callbacks or []):
    problem = _problem(callback) if tables else None
    if problem:
      raise ValueError(f"{problem.format(rows=f'the rows of {_named(tables)}')}.")
    if on_source and isinstance(callback, keras.callbacks.BackupAndRestore):
      raise ValueError(
        f"{type(callback).__name__} does not keep where a run is in its tfps.data source: use "
        "tfps.callbacks.Checkpoint(folder), which goes on from its last checkpoint."
      )


def _problem(callback: keras.callbacks.Callback) -> str | None:
  """What is wrong with a callback, as a sentence with a place for {rows}; None if nothing is."""
  callbacks, name = keras.callbacks, type(callback).__name__
  if isinstance(callback, callbacks.EarlyStopping) and callback.restore_best_weights:
    return (
      f"{name}(restore_best_weights=True) would put the best epoch's dense weights over {{rows}} "
      "as the last epoch left them: leave that argument out, and add "
      "tfps.callbacks.BestCheckpoint(folder, restore=True), which brings both back together"
    )
  if isinstance(callback, callbacks.ModelCheckpoint):
    return (
      f"{name} would save the model without {{rows}}: use "
      "tfps.callbacks.BestCheckpoint(folder) in the place of save_best_only, else "
      "tfps.callbacks.Checkpoint(folder)"
    )
  if isinstance(callback, callbacks.BackupAndRestore):
    return (
      f"{name} would go on from dense weights without {{rows}}: use "
      "tfps.callbacks.Checkpoint(folder), which goes on from its last checkpoint"
    )
  if isinstance(callback, callbacks.experimental.UpdateEmbeddingCallback):
    return (
      f"{name} changes the vocabulary of a Keras layer while batches are trained: look the ids up "
      "in {rows}, which take every id as it comes"
    )
  return None


def _named(tables: Iterable[Any]) -> str:
  names = [f"'{table.name}'" for table in tables]
  return f"table {names[0]}" if len(names) == 1 else f"the tables {', '.join(names)}"
