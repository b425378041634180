"""Parts that several of the models share: towers, histories, mixtures of experts."""

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras


def tower(
  hidden: Sequence[int], dropout: float = 0.0, batch_norm: bool = False
) -> keras.Sequential:
  """Dense ReLU layers of the widths `hidden`, each with dropout behind it.

  With `batch_norm` a layer's sums are normalised before ReLU, with the momentum and the epsilon of
  PyTorch, 0.9 and 1e-5 as Keras has them: Keras's own 0.99 needs several hundred steps before what
  it predicts with is what it trains with.
  """
  layers = keras.Sequential()
  for width in hidden:
    layers.add(keras.layers.Dense(width, None if batch_norm else "relu"))
    if batch_norm:
      layers.add(keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5))
      layers.add(keras.layers.ReLU())
    layers.add(keras.layers.Dropout(dropout))
  return layers


def flatten(vectors: tf.Tensor) -> tf.Tensor:
  """[B, S * D] of [B, S, D]."""
  return tf.reshape(vectors, [-1, vectors.shape[1] * vectors.shape[2]])


def sequence(
  ids: tf.Tensor | tf.RaggedTensor | tf.SparseTensor, vectors: tf.Tensor | tf.RaggedTensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """A slot that is not pooled as dense tensors.

  Args:
    ids: the slot's feature, as `tfps.Embedding` takes it.
    vectors: what `EmbeddingOutput.sequences` has for the slot.

  Returns:
    (vectors [B, k, D], bool [B, k]: false for padding).
  """
  if isinstance(vectors, tf.RaggedTensor):
    ids, vectors = ids.to_tensor(), vectors.to_tensor()
  elif isinstance(ids, tf.SparseTensor):
    ids = tf.sparse.to_dense(tf.sparse.reorder(ids))
  ids = tf.convert_to_tensor(ids)
  is_there = tf.not_equal(ids, tf.constant("" if ids.dtype == tf.string else 0, ids.dtype))
  return vectors, is_there if ids.shape.rank == 2 else is_there[:, tf.newaxis]


def latest(vectors: tf.Tensor, is_there: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
  """The last `length` vectors that are no padding, the latest first.

  Args:
    vectors: [B, k, D], in the order of time, with padding, zeros, anywhere.
    is_there: bool [B, k], false for padding.
    length: how many vectors to return; there may be fewer, or more.

  Returns:
    (vectors [B, length, D], zeros where there are no more; bool [B, length]).
  """
  places = tf.cumsum(tf.cast(is_there, tf.int32), axis=1, reverse=True) - 1
  chosen = tf.one_hot(places, length, dtype=vectors.dtype)
  return tf.einsum("bkn,bkd->bnd", chosen, vectors), tf.reduce_sum(chosen, axis=1) > 0


class TransformerBlock(keras.layers.Layer):
  """Self-attention and a network for each position, with residuals (Vaswani et al. 2017).

  Args:
    width: length of the vectors that come in and go out.
    heads: number of attention heads.
    dropout: share of the outputs of both parts that training drops.
    norm_first: layer normalisation before each part, as in SASRec, or after its residual, as in
      BST.
    activation: of the network's hidden layer.
  """

  def __init__(
    self, width: int, heads: int, dropout: float, norm_first: bool, activation: str = "relu"
  ) -> None:
    super().__init__()
    self.attention = keras.layers.MultiHeadAttention(heads, max(width // heads, 1))
    self.network = keras.Sequential(
      [keras.layers.Dense(width, activation), keras.layers.Dense(width)]
    )
    self.norms = [keras.layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
    self.dropout = keras.layers.Dropout(dropout)
    self.norm_first = norm_first

  def call(self, x: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    """[B, n, width] of the same; mask is bool [B, n, n]: which positions (last) one looks at."""
    attend = lambda y: self.attention(y, y, attention_mask=mask, training=training)
    for part, norm in zip((attend, self.network), self.norms):
      change = part(norm(x) if self.norm_first else x)
      x += self.dropout(change, training=training)
      if not self.norm_first:
        x = norm(x)
    return x


def mix(gate: tf.Tensor, experts: Sequence[tf.Tensor]) -> tf.Tensor:
  """[B, D], the sum of the experts' outputs [B, D], each times its share of the gate [B, n]."""
  stacked = tf.stack(experts, axis=1)
  return tf.einsum("bn,bnd->bd", tf.cast(gate, stacked.dtype), stacked)
