"""Where the samples of a TFRecord file begin, and when they happened."""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_READ_AT_ONCE = 4096
_FRAME_BYTES = 16  # length, checksum of the length, checksum of the data
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


class Samples(NamedTuple):
  """The samples of a file."""

  bounds: np.ndarray  # int64 [n + 1]: sample i is in bytes [bounds[i], bounds[i+1])
  times: np.ndarray  # float64 [n]: when each happened, in seconds since 1970


def read(path, time, unit):
  """Reads a file of tf.Examples through once.

  Args:
    path: a TFRecord file.
    time: the feature with the event time, one int64, since 1970.
    unit: of that time, one of `UNITS`.

  Returns:
    `Samples`.

  Raises:
    ValueError: the file is not whole, or a sample has no such feature; the sentence names the file.
  """
  lengths, times = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
  try:
    for records in tf.data.TFRecordDataset(path, buffer_size=1 << 20).batch(_READ_AT_ONCE):
      length, when = _look_at(time)(records)
      lengths.append(length.numpy())
      times.append(when.numpy())
  except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
    damaged = isinstance(error, tf.errors.DataLossError)
    problem = (
      "is not a whole TFRecord file: files must be whole when they appear, so write them under another name and rename them"
      if damaged
      else f"holds what is no tf.Example with one int64 {time!r}, its event time"
    )
    raise ValueError(f"{path} {problem} ({error.message.splitlines()[0]}).") from None
  lengths = np.concatenate(lengths)
  bounds = np.concatenate([[0], np.cumsum(lengths + _FRAME_BYTES)])
  return Samples(bounds.astype(np.int64), np.concatenate(times) / UNITS[unit])


@functools.cache
def _look_at(time):
  @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
  def look(records):
    parsed = tf.io.parse_example(records, {time: tf.io.FixedLenFeature([], tf.int64)})
    return tf.strings.length(records), parsed[time]

  return look
