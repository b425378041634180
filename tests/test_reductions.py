"""A row's step is that of its examples one by one, whatever the loss does with the batch."""

import copy
import inspect

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.training import reductions

SIZES = (4, 64)
LEARNING_RATE = 0.01

LOSSES = [
  name
  for name, loss in vars(keras.losses).items()
  if inspect.isclass(loss) and issubclass(loss, keras.losses.Loss) and loss is not keras.losses.Loss
]
REDUCTIONS = ["sum_over_batch_size", "sum", "none", "auto"]


class Net(tfps.Model):
  """One or two outputs of three numbers between 0 and 1, from the rows of two slots."""

  def __init__(self, outputs=1, add=None):
    super().__init__()
    self.table = tfps.FeasignTable(
      "sizes",
      mf_dim=2,
      mf_init_range=0.0,
      optimizer=tfps.SGD(LEARNING_RATE),
      accessor=tfps.CtrAccessor(create_threshold=0),
    )
    self.embedding = tfps.Embedding(self.table, ["a", "b"])
    self.outputs_wanted = outputs
    self.add = add

  def head(self, lr_logit, mf, kind):
    logits = lr_logit * [1.0, -1.0, 0.5] + 0.3 * kind * [1.0, 0.0, -1.0]
    logits += tf.reduce_sum(mf * [1.0, -2.0], axis=[1, 2])[:, tf.newaxis] * [2.0, 1.0, -1.0]
    if self.outputs_wanted == 1:
      return tf.sigmoid(logits)
    return tf.sigmoid(logits), tf.sigmoid(2.0 * logits)

  def call(self, x, training=None):
    embedded = self.embedding(x)
    if self.add is not None:
      self.add_loss(self.add(embedded.lr_logit + 1.0))
    kind = tf.cast(x["a"] % 10, tf.float32)[:, tf.newaxis]
    return self.head(embedded.lr_logit, embedded.mf, kind)

  def counts(self, x, y, sample_weight):
    weight = tf.ones(tf.shape(x["a"])) if sample_weight is None else sample_weight
    return weight, tf.zeros_like(weight)


def made(loss, model=None, **settings):
  model = model or Net()
  model.compile(keras.optimizers.SGD(0.0), loss, **settings)
  return model


def data(size, y, weight=None):
  """`size` examples, half of one kind and half of another; each size has feasigns of its own."""
  repeat = lambda values: np.repeat(np.asarray(values), size // 2, axis=0)
  x = {
    "a": tf.constant(repeat([10 * size + 1, 10 * size + 2]), tf.int64),
    "b": tf.constant(repeat([10 * size + 3, 10 * size + 3]), tf.int64),
  }
  batch = x, tf.nest.map_structure(lambda one: tf.constant(repeat(one)), y)
  return batch if weight is None else (*batch, tf.constant(repeat(weight), tf.float32))


def trained(model, y, weight=None):
  """{size: lr_w and mf_w of its feasigns after two steps with batches of this size}."""
  found = {}
  for size in SIZES:
    for _ in range(2):
      model.train_step(data(size, y, weight))
    rows = model.table.lookup([10 * size + i for i in (1, 2, 3)])
    found[size] = np.concatenate([rows["lr_w"][:, np.newaxis], rows["mf_w"]], axis=1)
  return found


def one_by_one(model, loss_of_example, weight=(1.0, 1.0)):
  """The same weights by the gradients of single examples: `loss_of_example(i, y_pred)`."""
  weights = np.zeros([3, 3], np.float32)
  for step in range(2):
    total, shows = np.zeros([3, 3]), np.zeros([3, 1])
    for i, rows in enumerate(([0, 2], [1, 2])):
      pulled = tf.constant(weights[rows])
      with tf.GradientTape() as tape:
        tape.watch(pulled)
        lr_logit = tf.reshape(tf.reduce_sum(pulled[:, 0]), [1, 1])
        y_pred = model.head(lr_logit, pulled[tf.newaxis, :, 1:], tf.constant(i + 1.0))
        value = loss_of_example(i, y_pred, lr_logit)
      gradient = tape.gradient(value, pulled).numpy()
      total[rows] += weight[i] * gradient
      shows[rows] += weight[i]
    if step == 0:
      total[:, 1:] = 0  # It is the push that admits.
    weights -= LEARNING_RATE * (total / shows).astype(np.float32)
  assert np.any(weights[:, 0]) and np.any(weights[:, 1:])
  return weights


def check(model, y, loss_of_example, weight=None):
  expected = one_by_one(model, loss_of_example, *([] if weight is None else [weight]))
  for size, found in trained(model, y, weight).items():
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6, err_msg=f"batch of {size}")


def labels_for(name):
  if name.startswith("Sparse"):
    return np.array([[1], [2]])
  return np.array([[0.2, 0.7, 0.1], [0.6, 0.1, 0.3]], np.float32)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_keras_with_every_reduction(name):
  y = labels_for(name)
  for reduction in REDUCTIONS:
    loss, alone = (getattr(keras.losses, name)(reduction=reduction) for _ in range(2))
    check(made(loss), y, lambda i, y_pred, _: tf.reduce_sum(alone(y[i : i + 1], y_pred)))


def squares(y, y_pred):
  return tf.reduce_mean((y - y_pred) ** 2, axis=-1)


class OwnSum(keras.losses.Loss):
  def call(self, y_true, y_pred):
    return tf.reduce_sum(squares(y_true, y_pred))


class OwnMean(keras.losses.Loss):
  """A mean although it is called a sum, as tutorials of distributed training divide."""

  def __init__(self):
    super().__init__(reduction="sum")

  def call(self, y_true, y_pred):
    return squares(y_true, y_pred) / tf.cast(tf.shape(y_pred)[0], tf.float32)


@pytest.mark.parametrize(
  "loss",
  [
    squares,
    lambda y, y_pred: tf.reduce_mean(squares(y, y_pred)),
    lambda y, y_pred: tf.reduce_sum(squares(y, y_pred)),
    OwnSum(),
    OwnSum(reduction="sum"),
    OwnMean(),
    "mse",
    keras.losses.mse,
  ],
)
def test_losses_that_do_not_say_what_they_are(loss):
  y = labels_for("")
  check(made(loss), y, lambda i, y_pred, _: squares(y[i : i + 1], y_pred))


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none"])
def test_weights_of_examples(reduction):
  y, weight = labels_for(""), (1.0, 3.0)
  loss = keras.losses.MeanSquaredError(reduction=reduction)
  check(made(loss), y, lambda i, y_pred, _: squares(y[i : i + 1], y_pred), weight)


@pytest.mark.parametrize(
  "reductions", [("sum", "sum"), ("sum_over_batch_size", "sum"), ("none", "none")]
)
def test_several_outputs_with_weights_of_their_losses(reductions):
  y = labels_for("")
  losses = [keras.losses.MeanSquaredError(reduction=reduction) for reduction in reductions]
  model = made(losses, model=Net(outputs=2), loss_weights=[0.5, 2.0])

  def alone(i, y_pred, _):
    first, second = (squares(y[i : i + 1], one) for one in y_pred)
    return 0.5 * first + 2.0 * second

  check(model, (y, y), alone)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
@pytest.mark.parametrize("add", [tf.reduce_mean, tf.reduce_sum])
def test_losses_that_the_model_adds(add, reduction):
  y = labels_for("")
  loss = keras.losses.MeanSquaredError(reduction=reduction)
  model = made(loss, model=Net(add=lambda logit: add(logit**2)))
  check(
    model,
    y,
    lambda i, y_pred, lr_logit: squares(y[i : i + 1], y_pred) + (lr_logit[:, 0] + 1.0) ** 2,
  )


class OwnLoss(Net):
  def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
    return self.reduce(squares(y, y_pred)) + sum(self.losses)


@pytest.mark.parametrize("kind", [tf.reduce_mean, tf.reduce_sum])
def test_a_compute_loss_of_ones_own(kind):
  y = labels_for("")
  model = OwnLoss(add=lambda logit: kind(logit**2))
  model.reduce = kind
  check(
    made(None, model=model),
    y,
    lambda i, y_pred, lr_logit: squares(y[i : i + 1], y_pred) + (lr_logit[:, 0] + 1.0) ** 2,
  )


def softmax_over_batch(y, y_pred):
  users, items = y_pred[:, :2], y_pred[:, 1:]
  scores = tf.matmul(users, items, transpose_b=True)
  labels = tf.range(tf.shape(y_pred)[0])
  return keras.losses.sparse_categorical_crossentropy(labels, scores, from_logits=True)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
def test_a_loss_over_the_batch_scales_as_its_reduction(reduction):
  class Softmax(keras.losses.Loss):
    def call(self, y_true, y_pred):
      return softmax_over_batch(y_true, y_pred)

  found = trained(made(Softmax(reduction=reduction)), labels_for(""))
  assert np.any(found[4])
  for size in SIZES[1:]:
    np.testing.assert_allclose(found[size], found[4], rtol=1e-4, atol=1e-6)


def test_what_is_neither_a_mean_nor_a_sum_is_told():
  pairs = lambda y, y_pred: tf.reduce_sum(
    tf.nn.softplus(y_pred[:, tf.newaxis, 0] - y_pred[tf.newaxis, :, 1])
  )
  with pytest.warns(UserWarning, match="'<lambda>' is neither a mean nor a sum .* loss_reduction"):
    made(pairs).train_step(data(4, labels_for("")))


@pytest.mark.parametrize("over_batch", [tf.reduce_mean, tf.reduce_sum])
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_a_small_loss_of_half_precision(over_batch, dtype):
  """Its gradients are too small for float16; some losses take that dtype only."""
  symbolic = tf.zeros([4, 1], dtype)
  for half in (dtype, None):
    loss = lambda _, y, y_pred, __: over_batch(
      (1e-6 if half is None else 1) * tf.square(tf.cast(y, half or y_pred.dtype) - y_pred)
    )
    found = reductions._of_gradients(loss, symbolic, symbolic, None)
    assert found == (reductions.MEAN if over_batch is tf.reduce_mean else reductions.SUM)


def test_a_compiled_loss_can_be_copied():
  inputs = keras.Input([3])
  model = tfps.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(inputs))
  model.compile("sgd", keras.losses.MeanAbsoluteError(name="mine"))
  x, y = np.ones([2, 3]), np.zeros([2, 1])
  expected = model.evaluate(x, y, verbose=0)
  (loss,) = copy.deepcopy(model.compiled_loss)._losses
  assert loss.name == "mine" and float(loss(y, model(x))) == expected == 3.0


def test_a_model_says_what_its_loss_is():
  """Here is a loss that cannot be computed on any other examples than these."""

  class Own(Net):
    loss_reduction = "sum"

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
      tf.debugging.assert_less(x["a"], tf.constant(10 * SIZES[-1] + 3, tf.int64))
      tf.debugging.assert_greater(x["a"], tf.constant(10 * SIZES[0], tf.int64))
      return tf.reduce_sum(squares(y, y_pred))

  y = labels_for("")
  check(made(None, model=Own()), y, lambda i, y_pred, _: squares(y[i : i + 1], y_pred))
