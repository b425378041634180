"""Tells, once for each model, that its labels do not look like clicks."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras
from absl import logging

from tfps.layers.embedding import tables_of


class LabelCheck(keras.callbacks.Callback):
  """Warns when what was pushed as clicks can be none.

  The parameter servers count rows whose click is below 0 or above their show. `look` asks them, as
  ends of epochs do.
  """

  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    self.look()

  def look(self) -> None:
    """Warns if there were such rows, unless the model was told of before."""
    model: Any = self.model
    if model.labels_are_clicks and self._odd_clicks():
      model.labels_are_clicks = False
      logging.warning(
        "Model '%s' counts labels as clicks that are not between 0 and 1 (ratings, classes, or -1 "
        "and 1?), so its shows, clicks and admission mean little: set click_label to the label "
        "that is the click, or override counts(x, y, sample_weight).", model.name,
      )  # fmt: skip

  def _odd_clicks(self) -> bool:
    try:
      return any(table.statistics()["odd_clicks"] for table in tables_of(self.model))
    except tf.errors.OpError:
      return False  # A server is gone, which is told elsewhere.
