"""What the targets that read records share."""

import tensorflow as tf


class RefusedError(Exception):
  """What a user is told: of which file, and what."""


def read_all(reading):
  """(int64 scalar: how many examples a `Reading` holds, what it skipped)."""
  examples = reading.batches.reduce(
    tf.zeros([], tf.int64), lambda count, batch: count + tf.size(batch[1], tf.int64)
  )
  return examples, reading.skipped(examples)
