"""A mark beside the checkpoints of a run: training has ended, and no checkpoint will follow."""

from __future__ import annotations

import tensorflow as tf

from tfps.storage import files

_NAME = "training-ended"


def mark(folder: str) -> None:
  """Marks that training, which saves its checkpoints in `folder`, has ended as it should."""
  tf.io.gfile.makedirs(folder)
  with tf.io.gfile.GFile(files.join(folder, _NAME), "w") as file:
    file.write("Training ended; the newest checkpoint here is its last.\n")


def clear(folder: str) -> None:
  """Removes the mark: training begins or goes on."""
  if is_marked(folder):
    tf.io.gfile.remove(files.join(folder, _NAME))


def is_marked(folder: str) -> bool:
  """Whether training has ended as it should."""
  return tf.io.gfile.exists(files.join(folder, _NAME))
