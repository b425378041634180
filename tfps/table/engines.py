"""The engines that hold a table's rows: tfps's own, and TensorFlow Recommenders Addons (TFRA)."""

from __future__ import annotations

import re

import tensorflow as tf

from tfps import native

ENGINES = ("native", "tfra")


def make_table(name: str, engine: str, shared_name: str, options: str, device: str) -> tf.Tensor:
  """Makes a server's part of the table `name`, on `device`.

  Returns:
    Its resource handle.

  Raises:
    ValueError: the engine is not installed.
  """
  try:
    with tf.init_scope(), tf.device(device):
      handle = native.ops.tfps_table(shared_name=shared_name, options=options, engine=engine)
      if engine != "native":
        native.ops.tfps_statistics(table=handle)[0].numpy()  # Waits for the server's answer.
  except tf.errors.FailedPreconditionError as error:
    reason = re.search(r"engine='.*?(?=\s*\[Op:|$)", error.message, re.DOTALL)
    raise ValueError(
      f"FeasignTable '{name}' on {device}: {reason[0] if reason else error.message}"
    ) from None
  return handle
