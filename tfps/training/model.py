"""tfps.Model: a Keras model whose train step pulls feasigns and pushes gradients and counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfps.data import batching
from tfps.data.down_sampling import DownSampling
from tfps.data.samples import CLICK, SHOW
from tfps.data.source import Source
from tfps.data.ticket import Ticket
from tfps.graph import compat
from tfps.graph.autograph import libraries_unconverted, tfps_unconverted, users
from tfps.layers import owner
from tfps.layers.step import Step, current_exchange, last_step
from tfps.training import arguments, finite_step, first_step, nonfinite_steps, step_gradients
from tfps.training.communication import Communication
from tfps.training.labels import LabelCheck
from tfps.training.learning_rates import warn_of_clipping
from tfps.training.reductions import LossReductions
from tfps.training.scoring import check_features
from tfps.training.step_counter import StepCounter
from tfps.training.step_gradients import LossScale
from tfps.training.trainer import Trainer
from tfps.training.without_rows import WithoutRows, check_callbacks

_Functional: Any = compat.functional_model()


# tf.Module looks for layers in all attributes and sorts the keys of dicts; sources have no order.
@compat.untracked("_trainer", "_reductions", "_counter")
class Model(WithoutRows, keras.Model):
  """A Keras model with feasign tables; subclass it or call `tfps.Model(inputs, outputs)`.

  `compile`, `fit`, `evaluate` and `predict` are Keras's. Given a `tfps.data` source they run its
  tickets, in one process and on a cluster alike; given arrays or a tf.data dataset (in one process)
  or a `DatasetCreator` (on a cluster) they do what stock Keras does. `evaluate`, `predict` and
  validation never change a table.

  A subclass may set or override:
    max_nonfinite_steps: with how many steps whose loss or gradient is not finite, and which change
      no weight, a `fit` fails; 100 by default, 0 for no limit.
    down_sampling: the `tfps.data.DownSampling` of the source that it is trained on, if there is
      one: what the model returns when it is not called for training is corrected for it.
    click_label: the label that is the click where the model has several: a key of `y` (dict), a
      position (list or columns); 0, the first, by default.
    loss_reduction: "mean" or "sum": what its `compute_loss` does with a batch's examples, where
      tfps cannot find out.
    served_models(): its parts that are served, where it is not served as a whole.
    counts(x, y, sample_weight): the show and the click that an occurrence in each example adds.
    train_step(data): everything; see `tfps.layers.step.Step` for the pull and the push.

  Examples:
    >>> slots = ["user_id", "item_id"]
    >>> inputs = {slot: keras.Input([], dtype=tf.int64, name=slot) for slot in slots}
    >>> embedded = tfps.Embedding(table, slots)(inputs)
    >>> logit = embedded.lr_logit + keras.layers.Dense(1)(keras.layers.Flatten()(embedded.mf))
    >>> model = tfps.Model(inputs, tf.sigmoid(logit))
    >>> model.compile("adam", "binary_crossentropy")
    >>> history = model.fit(source, verbose=0)
    >>> model.predict(source, verbose=0).shape
    (128, 1)
  """

  max_nonfinite_steps: int = nonfinite_steps.MOST
  down_sampling: DownSampling | None = None
  click_label: str | int | None = None
  loss_reduction: str | None = None
  labels_are_clicks = True  # As far as it is known.
  _trainer: Trainer | None = None  # What `trainer_of` made since the model was compiled.
  _has_stepped = False  # Whether a train step was run or traced since then.

  def __new__(cls, *args: Any, **kwargs: Any) -> Model:
    kind = _FunctionalModel if cls is Model and _is_functional(args, kwargs) else cls
    return super(Model, kind).__new__(kind, *args, **kwargs)

  def __init__(self, *args: Any, **kwargs: Any):
    # Keras would make every tfps.Model a functional one, by changing the bases of the classes.
    if _is_functional(args, kwargs) and not isinstance(self, _Functional):
      raise TypeError(
        f"{type(self).__name__} is a subclass: define its call() instead of giving it inputs and "
        "outputs, or call tfps.Model(inputs, outputs)."
      )
    super().__init__(*args, **kwargs)

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    with owner.calling(self):
      outputs = super().__call__(*args, **kwargs)
    if self.down_sampling is None or kwargs.get("training", args[1] if len(args) > 1 else None):
      return outputs
    return self.down_sampling.correct(outputs)

  def compile(self, *args: Any, **kwargs: Any) -> None:
    """Configures training, as `keras.Model.compile` does; it takes effect at the next call."""
    nonfinite_steps.check_most(self.max_nonfinite_steps)
    super().compile(*args, **kwargs)
    arguments.check_compiled(self)
    warn_of_clipping(self)
    self._trainer = None
    self._has_stepped = False
    self._reductions = LossReductions(self)
    with self.distribute_strategy.scope():
      self._counter = StepCounter()

  def counts(self, x: Any, y: Any, sample_weight: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The show and click that one occurrence in each example adds: `weight` and `weight * label`.

    Where x has "counts/show" and "counts/click", float32 [B], as samples of `tfps join` do, it is
    these. Without labels nothing is a click. Override it where an example brings its own counts
    otherwise.

    Args:
      x: features of one batch, as in `train_step`.
      y: its labels.
      sample_weight: float [B] or [B, 1], or None; where there is one for each output, that of the
        label that is the click counts.

    Returns:
      (show, click), float32 [B] each.
    """
    if isinstance(x, dict) and SHOW in x and CLICK in x:
      return tf.reshape(x[SHOW], [-1]), tf.reshape(x[CLICK], [-1])
    if y is None:
      click = tf.zeros([batching.rows(tf.nest.flatten(x)[0])])
    else:
      click = tf.cast(_first_label(y, self.click_label), tf.float32)
    weight = _weight_of_first_label(sample_weight, y, self.click_label)
    if weight is None:
      return tf.ones_like(click), click
    weight = tf.cast(tf.reshape(weight, [-1]), tf.float32)
    return weight, weight * click

  def served_models(self) -> dict[str, Model]:
    """{name: part of it} that `tfps train` and `tfps export` export together; {}: all is one."""
    return {}

  def train_step(self, data: Any) -> dict[str, tf.Tensor]:
    """One step: forward, dense update, push. Returns {metric name: value}, as Keras's does."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if not self._has_stepped:
      first_step.make_variables(self, data)
      self._has_stepped = True
    kept = finite_step.Kept(self)
    with tf.GradientTape(persistent=True) as tape, Step(tape) as step:
      y_pred = self(x, training=True)
      loss = users(self.compute_loss)(x, y, y_pred, sample_weight)
      compat.validate_target_and_loss(self, y, loss)
      variables = self.trainable_variables
      loss_scale = LossScale(self.optimizer, variables)
      parts = self._reductions.parts(loss, step.losses, (x, y, y_pred, sample_weight))
      parts = {over_batch: loss_scale.scaled(part) for over_batch, part in parts.items()}
    step.follow_schedules(self.optimizer.iterations)
    show, click = users(self.counts)(x, y, sample_weight)
    batch_size = tf.cast(tf.size(show), tf.float32)
    shares = step_gradients.shares(tape, parts, variables, step.rows, batch_size)
    shares = loss_scale.unscaled(shares)
    step.data = data
    dense = [gradient for share in shares for gradient in share.dense]
    step.verdict = finite_step.judge(self.optimizer, dense, [loss, *kept.changed()])
    if current_exchange().gradient_sums is None:
      self.apply_gradients(zip(step_gradients.dense_of(shares), variables))
    else:
      for share in shares:
        self.apply_gradients(zip(share.dense, variables), share.scale)
    rows, scale = step_gradients.rows_of(shares)
    step.push(rows, show, click, scale)
    return self._guarded_metrics(kept, step.verdict.spoilt, data, y_pred)

  def _guarded_metrics(
    self, kept: finite_step.Kept, spoilt: tf.Tensor, data: Any, y_pred: Any
  ) -> dict[str, tf.Tensor]:
    """What `compute_metrics` returns, after what a spoilt step has changed is as it was before."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    y, y_pred, sample_weight = finite_step.sane((y, y_pred, sample_weight), spoilt)
    logs = users(self.compute_metrics)(x, y, y_pred, sample_weight)
    kept.restore(spoilt)
    if type(self).compute_metrics is keras.Model.compute_metrics:
      logs = self.get_metrics_result()
    elif isinstance(logs, dict):
      logs = finite_step.without_step(logs, self.get_metrics_result(), spoilt)
    if not current_exchange().is_told and "loss" in logs:
      # As Keras's loop hands it to callbacks; the metric itself has left the step out.
      logs = {**logs, "loss": tf.where(spoilt, float("nan"), logs["loss"])}
    return logs

  def apply_gradients(
    self, gradients_and_variables: Iterable[tuple[Any, tf.Variable]], scale: Any = 1.0
  ) -> None:
    """Steps the dense weights, or adds to a merged step's gradients as `tfps.Communication` says.

    A subclass with a train_step of its own calls it in the place of
    `self.optimizer.apply_gradients`, and before the step's `push`. Where the step is not finite, no
    weight changes, and then none is changed by the push either.

    Args:
      gradients_and_variables: pairs, as Keras's optimizers take them.
      scale: what turns the gradients into those of the sum over examples of the loss: the batch's
        size where the loss is their mean, and the number 1 where it is their sum.
    """
    exchange, pairs, step = current_exchange(), list(gradients_and_variables), last_step()
    verdict = step.verdict if step is not None else None
    if verdict is None:
      verdict = finite_step.judge(self.optimizer, [gradient for gradient, _ in pairs])
      if step is not None:
        step.verdict = verdict
    if exchange.is_told:
      exchange.spoilt = verdict.spoilt
    else:
      data = step.data if step is not None else None
      self._counter.add(verdict.spoilt, data, self.max_nonfinite_steps)
    if exchange.gradient_sums is None:
      finite_step.apply(self.optimizer, pairs, verdict.spoilt)
    else:
      exchange.gradient_sums.add(pairs, scale, verdict.spoilt)

  @libraries_unconverted()
  def fit(
    self,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: Any = "auto",
    callbacks: Any = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: Any = None,
    class_weight: Any = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | list[int] = 1,
    max_queue_size: int = 10,
    workers: int = 1,
    use_multiprocessing: bool = False,
    *,
    communication: Communication | None = None,
  ) -> keras.callbacks.History:
    """Trains, as `keras.Model.fit` does; with a source as `x` by its tickets.

    With a source, a step of the progress bar and of the batch-level callbacks is one finished
    ticket, callbacks may have the hooks of `tfps.callbacks.Callback`, and metrics start anew with
    each day. Arguments that describe arrays or count batches (`y`, `batch_size`, `steps_per_epoch`,
    ...) are refused; `shuffle` must be what the source does; `max_queue_size`, `workers` and
    `use_multiprocessing` change nothing, as for a tf.data dataset. `communication`, a
    `tfps.Communication`, says how workers and parameter servers agree; asynchronously by default.

    Raises:
      ValueError: if an argument does not go with a source, or `communication` with anything else,
        or a callback has a misspelt hook.
    """
    arguments.check_compiled(self)
    arguments.check_validation(x, validation_data, validation_freq)
    if not isinstance(x, Source):
      if communication is not None:
        raise ValueError(
          "communication says how a source's tickets run; wrap x in tfps.data.source, or leave it "
          "out."
        )
      check_callbacks(self, callbacks)
      compat.assert_compiled(self)
      if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(LabelCheck())
        callbacks.set_model(self)
      else:
        callbacks = [*tf.nest.flatten(callbacks or []), LabelCheck()]
      with self._counter.told(), tfps_unconverted():
        return super().fit(
          x, y, batch_size, epochs, verbose, callbacks, validation_split, validation_data,
          True if shuffle is None else shuffle, class_weight, sample_weight, initial_epoch,
          steps_per_epoch, validation_steps, validation_batch_size, validation_freq,
          max_queue_size, workers, use_multiprocessing,
        )  # fmt: skip
    arguments.refuse(
      y=y, batch_size=batch_size, validation_split=validation_split or None,
      sample_weight=sample_weight, steps_per_epoch=steps_per_epoch,
      validation_steps=validation_steps, validation_batch_size=validation_batch_size,
    )  # fmt: skip
    arguments.check_shuffle(x, shuffle)
    arguments.check_down_sampling(self, x)
    validated = () if validation_data is None else ("make_test_function",)
    arguments.check_made_functions(self, "make_train_function", *validated)
    compat.assert_compiled(self)
    return trainer_of(self).fit(
      x,
      epochs=epochs,
      initial_epoch=initial_epoch,
      verbose=arguments.verbosity(verbose),
      callbacks=callbacks,
      validation_source=validation_data,
      validation_freq=validation_freq,
      class_weight=class_weight,
      communication=communication or Communication(),
    )

  def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
    """One train step, as `keras.Model.train_on_batch` runs it; ValueError on a cluster."""
    arguments.check_on_batch(self, "train_on_batch")
    compat.assert_compiled(self)
    with self._counter.told(starts=False), tfps_unconverted():
      return super().train_on_batch(*args, **kwargs)

  def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
    """One test step, as `keras.Model.test_on_batch` runs it; ValueError on a cluster."""
    arguments.check_on_batch(self, "test_on_batch")
    return super().test_on_batch(*args, **kwargs)

  def predict_on_batch(self, x: Any) -> Any:
    """One predict step, as `keras.Model.predict_on_batch` runs it; ValueError on a cluster."""
    arguments.check_on_batch(self, "predict_on_batch")
    return super().predict_on_batch(x)

  @libraries_unconverted()
  def evaluate(
    self,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    verbose: Any = "auto",
    sample_weight: Any = None,
    steps: int | None = None,
    callbacks: Any = None,
    max_queue_size: int = 10,
    workers: int = 1,
    use_multiprocessing: bool = False,
    return_dict: bool = False,
    **kwargs: Any,
  ) -> Any:
    """Evaluates, as `keras.Model.evaluate` does; with a source, scores each example once.

    The model's `test_step` runs on each batch of the source. For batch-level callbacks a batch is
    one finished ticket.

    Raises:
      ValueError: if an argument does not go with a source.
    """
    arguments.check_compiled(self)
    if not isinstance(x, Source):
      check_callbacks(self, callbacks)
      with tfps_unconverted():
        return super().evaluate(
          x, y, batch_size, verbose, sample_weight, steps, callbacks, max_queue_size, workers,
          use_multiprocessing, return_dict, **kwargs,
        )  # fmt: skip
    arguments.check_unknown(kwargs)
    arguments.refuse(y=y, batch_size=batch_size, sample_weight=sample_weight, steps=steps)
    arguments.check_all_negatives(x, "the source")
    arguments.check_made_functions(self, "make_test_function")
    compat.assert_compiled(self)
    verbose = arguments.verbosity(verbose)
    logs = trainer_of(self).scorer.evaluate(x, verbose=verbose, callbacks=callbacks)
    return logs if return_dict else arguments.in_order(logs, self.metrics_names)

  @libraries_unconverted()
  def predict(
    self,
    x: Any,
    batch_size: int | None = None,
    verbose: Any = "auto",
    steps: int | None = None,
    callbacks: Any = None,
    max_queue_size: int = 10,
    workers: int = 1,
    use_multiprocessing: bool = False,
  ) -> Any:
    """Predicts, as `keras.Model.predict` does; with a source, its examples in order.

    The model's `predict_step` runs on each batch of the source.

    Raises:
      ValueError: if an argument does not go with a source, or the source has no examples.
    """
    arguments.check_compiled(self)
    if not isinstance(x, Source):
      with tfps_unconverted():
        return super().predict(
          x, batch_size, verbose, steps, callbacks, max_queue_size, workers, use_multiprocessing
        )
    arguments.refuse(batch_size=batch_size, steps=steps)
    arguments.check_made_functions(self, "make_predict_function")
    verbose = arguments.verbosity(verbose)
    return trainer_of(self).scorer.predict(x, verbose=verbose, callbacks=callbacks)

  def score(
    self, source: Source, tickets: Iterable[Ticket] | None = None, features: Sequence[str] = ()
  ) -> Iterator[dict[str, Any]]:
    """Scores every example of a source once and hands the results on as they come.

    Args:
      source: a `tfps.data` source.
      tickets: those of its tickets that are scored; all by default.
      features: keys of x whose values come along.

    Yields:
      For each ticket, in order, a dict of NumPy arrays: "y_pred" and, where the source has them,
      "y" and "sample_weight"; with `features` also "features": {key: (values [N], the number of
      them in each example [B])}.

    Raises:
      ValueError: x has no such feature.
    """
    check_features(source, features)
    return trainer_of(self).scorer.score(source, tickets, features)

  def build_for(self, source: Source) -> None:
    """Makes every variable of model, optimizer and metrics, as a trace on a batch makes them."""
    trainer_of(self).build(source)


@compat.untracked()
class _FunctionalModel(Model, _Functional):
  """What tfps.Model(inputs, outputs) makes."""

  # By these arguments Keras knows that it can make the model again from its config.
  def __init__(
    self, inputs: Any, outputs: Any, name: str | None = None, trainable: bool = True, **kwargs: Any
  ):
    super().__init__(inputs, outputs, name=name, trainable=trainable, **kwargs)


def trainer_of(model: Model) -> Trainer:
  """The `Trainer` of a model, made when first needed and anew once the model is compiled."""
  if model._trainer is None:
    has_own = getattr(model.train_step, "__func__", None) is not Model.train_step
    model._trainer = Trainer(model, ahead=not has_own)
  return model._trainer


def _is_functional(args: tuple, kwargs: dict[str, Any]) -> bool:
  return (
    len(args) == 2
    or (len(args) == 1 and "outputs" in kwargs)
    or {"inputs", "outputs"} <= set(kwargs)
  )


def _first_label(y: Any, click_label: str | int | None) -> tf.Tensor:
  """The label that is the click, flattened to [B]."""
  if isinstance(y, dict):
    y = y[next(iter(y)) if click_label is None else click_label]
  elif isinstance(y, (list, tuple)):
    y = y[int(click_label or 0)]
  elif y.shape.rank == 2:
    y = y[:, click_label or 0]
  return tf.reshape(y, [-1])


def _weight_of_first_label(sample_weight: Any, y: Any, click_label: str | int | None) -> Any:
  """The sample weight that goes with the label that is the click, or None."""
  if isinstance(sample_weight, dict):
    return sample_weight.get(next(iter(y)) if click_label is None else click_label)
  if isinstance(sample_weight, (list, tuple)):
    return sample_weight[int(click_label or 0)]
  return sample_weight
