"""What keeps a table's rows: tfps itself, or the tables of TensorFlow Recommenders Addons (TFRA)."""

import re

import tensorflow as tf

from tfps import native

ENGINES = ("native", "tfra")


def make_table(name, engine, shared_name, options, device):
  """Makes a server's part of the table `name`, on `device`.

  Returns:
    Its resource handle.

  Raises:
    ValueError: the engine is not there.
  """
  try:
    with tf.init_scope(), tf.device(device):
      handle = native.ops.tfps_table(shared_name=shared_name, options=options, engine=engine)
      if engine != "native":
        native.ops.tfps_statistics(table=handle)[0].numpy()  # Waits for what a server says.
  except tf.errors.FailedPreconditionError as error:
    reason = re.search(r"engine='.*?(?=\s*\[Op:|$)", error.message, re.DOTALL)
    raise ValueError(
      f"FeasignTable '{name}' on {device}: {reason[0] if reason else error.message}"
    ) from None
  return handle
