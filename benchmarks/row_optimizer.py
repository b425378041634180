"""Models of Keras whose embeddings have an optimizer of their own, as a table's rows have."""

import tensorflow as tf


class RowOptimizer:
  """Comes before keras.Model among the bases of a model that sets these attributes.

  Attributes:
    row_optimizer: of Keras, for the trainable weights of `row_layers`; the model is compiled with
      that of its other weights.
    sums: whether it takes the gradients of a sum over the batch.
  """

  def row_layers(self):
    """The embeddings."""
    raise NotImplementedError

  def train_step(self, data):
    """Keras's, with two optimizers."""
    x, y = data
    with tf.GradientTape() as tape:
      loss = self.compute_loss(x, y, self(x, training=True))
    rows = [weight for layer in self.row_layers() for weight in layer.trainable_weights]
    dense = [weight for weight in self.trainable_weights if all(weight is not row for row in rows)]
    of_rows, of_dense = tape.gradient(loss, [rows, dense])
    if self.sums:
      size = tf.cast(tf.shape(tf.nest.flatten(y)[0])[0], tf.float32)
      of_rows = [tf.IndexedSlices(g.values * size, g.indices, g.dense_shape) for g in of_rows]
    self.row_optimizer.apply_gradients(zip(of_rows, rows))
    self.optimizer.apply_gradients(zip(of_dense, dense))
    return {"loss": loss}
