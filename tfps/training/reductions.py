"""What a loss does with the examples of a batch: the mean over them, or the sum.

A row's step needs the gradient of the sum over examples. Which of the two a loss is, is measured
and not read off its `reduction`: made-up examples are given to it, and the same ones twice. The
gradient that each of them gets halves if the loss is a mean, and stays if it is a sum. So a loss
that sums in its `call`, or that divides by the batch's size, counts as what it is, and the mean of
a softmax over the batch as a mean.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfps.data import batching
from tfps.graph import compat
from tfps.layers.exchange import MadeUp, current_step

if TYPE_CHECKING:
  from tfps.training.model import Model

_Result = TypeVar("_Result")

MEAN, SUM = "mean", "sum"
_NEITHER = "neither"

_EXAMPLES = 3  # made-up ones
_HALVES = (tf.float16, tf.bfloat16)

# How far two gradients may be apart that are the same, as a share of their norm; of float16, too.
_TOLERANCE = 0.02


class Observed:
  """A compiled loss that tells the `Step` in which it is computed of each value.

  Args:
    loss: the keras.losses.Loss.
  """

  def __init__(self, loss: keras.losses.Loss):
    self._loss = loss
    self._over_batch: str | None = None

  def __getattr__(self, name: str) -> Any:
    if "_loss" not in vars(self):  # A copy that is being made.
      raise AttributeError(name)
    return getattr(self._loss, name)

  def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
    value = self._loss(y_true, y_pred, sample_weight=sample_weight)
    step = current_step()
    if step is not None:
      if self._over_batch is None:
        self._over_batch = self._measured(y_true, y_pred, sample_weight)
      step.losses.append((self, value))
    return value

  @property
  def over_batch(self) -> str:
    """MEAN or SUM; known once the loss was computed in a step."""
    return self._over_batch or MEAN

  def _measured(self, y_true: Any, y_pred: Any, sample_weight: Any) -> str:
    loss = lambda times, y, y_pred, weight: self._loss(y, y_pred, sample_weight=weight)
    found = _aside(lambda: _of_gradients(loss, y_true, y_pred, sample_weight))
    if found is None:
      # Not on made-up examples: then it is what it is declared to be.
      sums = (keras.losses.Reduction.SUM, keras.losses.Reduction.NONE)
      found = SUM if self._loss.reduction in sums else MEAN
    return _mean_or_sum(found, f"loss '{self._loss.name or type(self._loss).__name__}'")


class LossReductions:
  """Splits a model's loss into what is a mean over a batch's examples and what is a sum.

  Args:
    model: the `tfps.Model`, compiled just now.
  """

  def __init__(self, model: Model):
    self._model = model
    self._of_model: str | None = None
    self._of_added: list[str] = []
    if compat.has_compiled_loss(model):
      compat.wrap_losses(model, Observed)

  def parts(
    self, loss: tf.Tensor, observed: Sequence[tuple[Observed, tf.Tensor]], data: tuple
  ) -> dict[str, tf.Tensor]:
    """{MEAN or SUM: a part of `loss`}, scalars that add up to the sum of `loss`.

    Called under the tape that recorded the loss.

    Args:
      loss: what `compute_loss` returned in a train step.
      observed: the step's `losses`.
      data: its (x, y, y_pred, sample_weight).
    """
    model = self._model
    if type(model).compute_loss is not keras.Model.compute_loss:
      self._of_model = self._of_model or model.loss_reduction or self._measured_model(*data)
      return {self._of_model: tf.reduce_sum(loss)}
    added = model.losses
    if len(added) != len(self._of_added):
      self._of_added = self._measured_added(data[0], len(added))
    values = list(zip(self._of_added, added))
    weights = compat.loss_weights(model)
    for compiled, value in observed:
      weight = weights[id(compiled)]
      values.append((compiled.over_batch, value if weight is None else value * weight))
    kinds = {kind for kind, _ in values} or {MEAN}
    if len(kinds) == 1:
      return {kinds.pop(): tf.reduce_sum(loss)}
    sums = [tf.cast(tf.reduce_sum(value), loss.dtype) for kind, value in values if kind == SUM]
    return {SUM: tf.add_n(sums), MEAN: tf.reduce_sum(loss) - tf.add_n(sums)}

  def _measured_model(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> str:
    """Of a `compute_loss` that the user wrote."""
    model = self._model

    def loss(times: int, y: Any, y_pred: Any, weight: Any) -> Any:
      features = _features(x, times * _EXAMPLES)
      with contextlib.suppress(Exception):
        model(features)  # so that model.losses are those of made-up examples
      return model.compute_loss(features, y, y_pred, weight)

    def measured() -> str | None:
      metrics = [variable for metric in model.metrics for variable in metric.variables]
      before = [variable.numpy() for variable in metrics]
      found = _of_gradients(loss, y, y_pred, sample_weight)
      for variable, value in zip(metrics, before):
        variable.assign(value)
      return found

    return _mean_or_sum(_aside(measured) or _NEITHER, f"compute_loss of model '{model.name}'")

  def _measured_added(self, x: Any, number: int) -> list[str]:
    """Of the `number` losses that the model adds: those of add_loss, and regularizers."""
    model = self._model

    def measured() -> list[list[float]]:
      values = []
      with contextlib.suppress(Exception):
        for times in (1, 2):
          model(_features(x, times * _EXAMPLES))
          values.append([float(loss) for loss in model.losses])
      return values

    values = _aside(measured)
    if [len(one) for one in values] != [number, number]:
      return [MEAN] * number
    doubles = lambda once, twice: once != 0 and abs(twice - 2 * once) < _TOLERANCE * abs(once)
    return [SUM if doubles(*pair) else MEAN for pair in zip(*values)]


def _of_gradients(loss: Callable, y_true: Any, y_pred: Any, weight: Any) -> str | None:
  """MEAN, SUM or _NEITHER; None if `loss` has no gradient on made-up examples.

  Args:
    loss: a function of how often the examples are there, and of the other arguments.
    y_true, y_pred, weight: nested tensors of any batch; symbolic ones will do.
  """

  def gradient(times: int, wide: bool, label: float | None, all_unknown: bool) -> np.ndarray:
    """Of the examples, the first time that they are there."""
    labels = functools.partial(_any, 1) if label is None else lambda shape: np.full(shape, label)
    made_up = functools.partial(_made_up, times=times, all_unknown=all_unknown, wide=wide)
    predicted = made_up(y_pred, functools.partial(_any, 2))
    arguments = made_up(y_true, labels), predicted, made_up(weight, np.ones)
    with tf.GradientTape() as tape:
      tape.watch(predicted)
      value = loss(times, *arguments)
    gradients = tf.nest.flatten(tape.gradient(value, predicted))
    found = [one[:_EXAMPLES].numpy().ravel() for one in gradients if one is not None]
    return np.concatenate(found).astype(np.float64)

  # In float32, as gradients of float16 may be too small for its numbers, or else as they are.
  tensors = [tensor for tensor in tf.nest.flatten((y_true, y_pred, weight)) if tensor is not None]
  widths = (True, False) if any(one.dtype in _HALVES for one in tensors) else (False,)
  # Labels in [0, 1], or else classes; and all of a matrix [B, B] is there twice, too.
  for how in itertools.product(widths, (None, 1, 0), (False, True)):
    try:
      once, twice = (gradient(times, *how) for times in (1, 2))
    except Exception:  # Of the user's code, which was not written for such labels.
      continue
    if once.shape == twice.shape and np.all(np.isfinite(once)) and np.any(once):
      return _ratio(once, twice)
  return None


def _ratio(once: np.ndarray, twice: np.ndarray) -> str:
  for found, factor in ((MEAN, 0.5), (SUM, 1.0)):
    if np.linalg.norm(twice - factor * once) < _TOLERANCE * np.linalg.norm(once):
      return found
  return _NEITHER


def _mean_or_sum(found: str, whose: str) -> str:
  if found != _NEITHER:
    return found
  warnings.warn(
    f"{whose} is neither a mean nor a sum over a batch's examples, as far as tfps can tell: the "
    "rows' steps are those of a mean. Set loss_reduction to 'mean' or 'sum' on the model.",
    stacklevel=2,
  )
  return MEAN


def _aside(function: Callable[[], _Result]) -> _Result:
  """Calls a function where no graph, tape, step or table is active: in a thread of its own."""

  def call() -> _Result:
    with MadeUp():
      return function()

  with futures.ThreadPoolExecutor(1) as pool:
    return pool.submit(call).result()


def _any(seed: int, shape: Sequence[int]) -> np.ndarray:
  """Numbers of which one can be a probability and a score."""
  return np.random.default_rng(seed).uniform(0.2, 0.8, shape)


def _made_up(
  nested: Any,
  numbers: Callable[[Sequence[int]], np.ndarray],
  times: int,
  all_unknown: bool,
  wide: bool,
) -> Any:
  """Examples in the form of a batch, `times` times; with `all_unknown` other dimensions, too.

  With `wide`, those of float16 or bfloat16 are of float32.
  """

  def one(tensor: Any) -> Any:
    if tensor is None:
      return None
    shape = [_EXAMPLES if size is None else size for size in tensor.shape[1:]]
    multiples = [times if size is None and all_unknown else 1 for size in tensor.shape[1:]]
    dtype = tf.float32 if wide and tensor.dtype in _HALVES else tensor.dtype
    return tf.cast(tf.tile(numbers([_EXAMPLES, *shape]), [times, *multiples]), dtype)

  return tf.nest.map_structure(one, nested)


def _features(x: Any, size: int) -> Any:
  """A batch of `size` examples, all alike, in the form of the batch `x`: ones, empty strings."""

  def one(value: Any) -> Any:
    spec: Any = tf.type_spec_from_value(value)
    shape = [None, *spec.shape[1:]]
    if isinstance(spec, tf.RaggedTensorSpec):
      spec = tf.RaggedTensorSpec(shape, spec.dtype, spec.ragged_rank, spec.row_splits_dtype)
    else:
      spec = type(spec)(shape, spec.dtype)
    example = batching.padding(spec)
    if not isinstance(example, tf.SparseTensor) and spec.dtype != tf.string:
      example = example + 1
    return batching.repeated(example, size)

  return tf.nest.map_structure(one, x)
