"""Features of a row's show and click."""

from __future__ import annotations

import tensorflow as tf


def cvm(statistics: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
  """Popularity and click rate as features, as PaddlePaddle's continuous value model op has them.

  It is log(show + 1) and log(click + 1) - log(show + 1). For a slot with several feasigns,
  PaddlePaddle adds up shows and clicks first: `cvm(tf.reduce_sum(statistics, axis=1))`.

  Args:
    statistics: float [..., 2], show and click, such as `EmbeddingOutput.statistics` has for a slot.
      What is below 0 is taken as 0.

  Returns:
    float [..., 2].

  Examples:
    >>> tfps.cvm(tf.constant([[0.0, 0.0], [3.0, 1.0]])).numpy().round(3)
    array([[ 0.   ,  0.   ],
           [ 1.386, -0.693]], dtype=float32)
  """
  if isinstance(statistics, tf.RaggedTensor):
    return statistics.with_flat_values(cvm(statistics.flat_values))
  logs = tf.math.log1p(tf.maximum(statistics, 0))
  return tf.concat([logs[..., :1], logs[..., 1:] - logs[..., :1]], axis=-1)
