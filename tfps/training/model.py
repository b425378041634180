"""tfps.Model: a Keras model whose train step pulls feasigns and pushes their gradients and counts."""

import difflib

import tensorflow as tf
import tf_keras as keras
from tf_keras.src.engine.functional import Functional

from tfps.data import batching
from tfps.data.samples import CLICK, SHOW
from tfps.data.source import Source
from tfps.graph.autograph import libraries_unconverted
from tfps.layers.bags import read_values
from tfps.layers.step import Step, current_exchange
from tfps.training import loop, tickets
from tfps.training.communication import Communication
from tfps.training.local import LocalTrainer
from tfps.training.worker import TicketTrainer


class Model(keras.Model):
  """A Keras model with feasign tables; subclass it or call `tfps.Model(inputs, outputs)`.

  `compile`, `fit`, `evaluate` and `predict` are Keras's. Given a `tfps.data` source they run its tickets, in one process
  and on a cluster alike; given arrays or a tf.data dataset (in one process) or a `DatasetCreator` (on a cluster) they do
  what stock Keras does. `evaluate`, `predict` and validation never change a table.

  What a subclass may set or override:
    click_label: which label is the click where the model has several: a key of `y` (dict), a position (list or columns);
      0, the first, by default.
    counts(x, y, sample_weight): the show and the click that an occurrence in each example adds.
    train_step(data): everything; see `tfps.layers.step.Step` for the pull and the push.

  Examples:
    >>> inputs = {slot: keras.Input([], dtype=tf.int64, name=slot) for slot in ("user_id", "item_id")}
    >>> embedded = tfps.Embedding(table, ["user_id", "item_id"])(inputs)
    >>> logit = embedded.lr_logit + keras.layers.Dense(1)(keras.layers.Flatten()(embedded.mf))
    >>> model = tfps.Model(inputs, tf.sigmoid(logit))
    >>> model.compile("adam", "binary_crossentropy")
    >>> history = model.fit(source, verbose=0)
    >>> model.predict(source).shape
    (128, 1)
  """

  click_label = None
  _trainer = None  # Of the ticket function that trains now, on a cluster.
  # tf.Module, which looks for layers in all attributes, sorts the keys of dicts, and sources have no order.
  _TF_MODULE_IGNORED_PROPERTIES = frozenset(
    ("_ticket_functions", "_trainer", *keras.Model._TF_MODULE_IGNORED_PROPERTIES)
  )

  def __new__(cls, *args, **kwargs):
    if cls is Model and _is_functional(args, kwargs):
      cls = _FunctionalModel
    return super().__new__(cls, *args, **kwargs)

  def __init__(self, *args, **kwargs):
    # Keras would make every tfps.Model a functional one, by changing the bases of the classes.
    if _is_functional(args, kwargs) and not isinstance(self, Functional):
      raise TypeError(
        f"{type(self).__name__} is a subclass: define its call() instead of giving it inputs and outputs, or "
        "call tfps.Model(inputs, outputs)."
      )
    super().__init__(*args, **kwargs)

  def counts(self, x, y, sample_weight):
    """The show and click that one occurrence in each example adds: `weight` and `weight * label`.

    Where x has "counts/show" and "counts/click", float32 [B], as samples of `tfps join` do, it is these. Override it where
    an example brings its own counts otherwise.

    Args:
      x: the features of one batch.
      y: its labels.
      sample_weight: its weights, or None.

    Returns:
      (show, click), float32 [B] each.
    """
    if isinstance(x, dict) and SHOW in x and CLICK in x:
      return tf.reshape(x[SHOW], [-1]), tf.reshape(x[CLICK], [-1])
    click = tf.cast(_first_label(y, self.click_label), tf.float32)
    if sample_weight is None:
      return tf.ones_like(click), click
    weight = tf.cast(tf.reshape(sample_weight, [-1]), tf.float32)
    return weight, weight * click

  def train_step(self, data):
    """One step: forward, dense update, push. Returns {metric name: value}, as Keras's does."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape, Step(tape) as step:
      y_pred = self(x, training=True)
      loss = self.compute_loss(x, y, y_pred, sample_weight)
    self._validate_target_and_loss(y, loss)
    variables = self.trainable_variables
    gradients = tape.gradient(loss, [variables, step.rows])
    show, click = self.counts(x, y, sample_weight)
    scale = self._sum_over_mean(show)
    self.apply_gradients(zip(gradients[0], variables), scale)
    step.push(gradients[1], show, click, scale)
    return self.compute_metrics(x, y, y_pred, sample_weight)

  def apply_gradients(self, gradients_and_variables, scale):
    """Steps the dense weights, or adds to a merged step's gradients as `tfps.Communication` says.

    A subclass with a train_step of its own calls it in the place of `self.optimizer.apply_gradients`.

    Args:
      gradients_and_variables: pairs, as Keras's optimizers take them.
      scale: what turns the gradients into those of the sum over examples of the loss: the batch's size where the loss
        is their mean.
    """
    exchange = current_exchange()
    if exchange is None or exchange.gradient_sums is None:
      self.optimizer.apply_gradients(gradients_and_variables)
    else:
      exchange.gradient_sums.add(gradients_and_variables, scale)

  def _sum_over_mean(self, show):
    """What turns the gradient of the compiled loss into that of the sum over the batch's examples."""
    return 1.0 if self.loss_is_sum else tf.cast(tf.size(show), tf.float32)

  @property
  def loss_is_sum(self):
    """Whether the compiled loss is a sum over a batch's examples, rather than their mean."""
    losses = [loss for loss in tf.nest.flatten(self.loss) if isinstance(loss, keras.losses.Loss)]
    return any(loss.reduction == keras.losses.Reduction.SUM for loss in losses)

  @libraries_unconverted()
  def fit(
    self,
    x=None,
    y=None,
    batch_size=None,
    epochs=1,
    verbose="auto",
    callbacks=None,
    validation_split=0.0,
    validation_data=None,
    shuffle=True,
    class_weight=None,
    sample_weight=None,
    initial_epoch=0,
    communication=None,
    **kwargs,
  ):
    """Trains, as `keras.Model.fit` does; with a source as `x` by its tickets.

    With a source, a step of the progress bar and of the batch-level callbacks is one finished ticket, callbacks may
    have `on_day_begin(day)` and `on_day_end(day, logs)`, metrics start anew with each day, and the arguments
    that describe arrays (`y`, `batch_size`, `shuffle`, ...) do not apply. `communication`, a `tfps.Communication`, says
    how workers and parameter servers agree; asynchronously by default.

    Raises:
      ValueError: if an argument does not go with a source, or `communication` with anything else.
    """
    if not isinstance(x, Source):
      if communication is not None:
        raise ValueError(
          "communication says how a source's tickets run; wrap x in tfps.data.source, or leave it out."
        )
      return super().fit(
        x, y, batch_size, epochs, verbose, callbacks, validation_split, validation_data, shuffle,
        class_weight, sample_weight, initial_epoch, **kwargs,
      )  # fmt: skip
    _refuse_with_source(
      y=y, batch_size=batch_size, validation_split=validation_split or None,
      class_weight=class_weight, sample_weight=sample_weight, **kwargs,
    )  # fmt: skip
    self._assert_compile_was_called()
    if validation_data is not None and not isinstance(validation_data, Source):
      raise ValueError(
        "fit on a source takes a source as validation_data; wrap it in tfps.data.source."
      )
    return loop.fit(
      self,
      x,
      epochs=epochs,
      initial_epoch=initial_epoch,
      verbose=1 if verbose == "auto" else verbose,
      callbacks=callbacks,
      validation_source=validation_data,
      communication=communication or Communication(),
    )

  @libraries_unconverted()
  def evaluate(
    self, x=None, y=None, batch_size=None, verbose="auto", sample_weight=None, steps=None,
    callbacks=None, return_dict=False, **kwargs,
  ):  # fmt: skip
    """Evaluates, as `keras.Model.evaluate` does; with a source, scores each of its examples once."""
    if not isinstance(x, Source):
      return super().evaluate(
        x,
        y,
        batch_size,
        verbose,
        sample_weight,
        steps,
        callbacks,
        return_dict=return_dict,
        **kwargs,
      )
    _refuse_with_source(
      y=y, batch_size=batch_size, sample_weight=sample_weight, steps=steps, **kwargs
    )
    self._assert_compile_was_called()
    logs = loop.evaluate(self, x, verbose=1 if verbose == "auto" else verbose, callbacks=callbacks)
    if return_dict:
      return logs
    values = [logs[name] for name in self.metrics_names]
    return values[0] if len(values) == 1 else values

  @libraries_unconverted()
  def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None, **kwargs):
    """Predicts, as `keras.Model.predict` does; with a source, its examples in order."""
    if not isinstance(x, Source):
      return super().predict(x, batch_size, verbose, steps, callbacks, **kwargs)
    _refuse_with_source(batch_size=batch_size, steps=steps, callbacks=callbacks, **kwargs)
    return loop.predict(self, x)

  def score(self, source, tickets=None, features=()):
    """Scores every example of a source once and hands the results on as they come.

    Args:
      source: a `tfps.data` source.
      tickets: those of its tickets that are scored; all by default.
      features: keys of x whose values come along.

    Yields:
      For each ticket, in order, a dict of NumPy arrays: "y_pred" and, where the source has them, "y" and
      "sample_weight"; with `features` also "features": {key: (values [N], how many of them each example has [B])}.

    Raises:
      ValueError: x has no such feature.
    """
    check_features(source, features)
    return loop.score(self, source, tickets, features)

  def save(self, *args, **kwargs):
    """Refused: the rows are on the parameter servers, where Keras's formats do not reach."""
    raise NotImplementedError(
      f"model '{self.name}' has feasign tables, which model.save cannot hold: keep the dense weights with "
      "model.save_weights, or export the model for serving."
    )

  def build_for(self, source):
    """Makes every variable of model, optimizer and metrics, from one batch that is all padding."""
    if getattr(self, "_built_for_source", False):
      return
    batch = batching.padding(source.element_spec)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    y_pred = self(x, training=False)
    if self.optimizer is not None:
      self.optimizer.build(self.trainable_variables)
    if self.compiled_loss is not None and y is not None:
      self.compute_loss(x, y, y_pred, sample_weight)
      self.compute_metrics(x, y, y_pred, sample_weight)
    self.reset_metrics()
    self._built_for_source = True

  def make_ticket_function(self, kind, source, *arguments):
    """The tf.function that trains ("train", communication) on one ticket of `source`, or scores ("score", features) it."""
    # All sources that open alike share one trace: a day of a calendar is the same function as the next.
    functions = self.__dict__.setdefault("_ticket_functions", {})
    key = (kind, source.opener, *arguments)
    if key not in functions:
      make = self._make_training if kind == "train" else self._make_scoring
      functions[key] = make(source, *arguments)
    function, self._trainer = functions[key], getattr(functions[key], "trainer", self._trainer)
    return function

  def _make_training(self, source, communication=Communication()):
    """Trains on a ticket: on a cluster as `communication` says; in one process there is nobody to agree with."""
    if not tickets.is_cluster(self.distribute_strategy):
      local = LocalTrainer(self, source, ahead=type(self).train_step is Model.train_step)

      def train_here(ticket, *_):
        reading = source.reading(ticket)
        logs, examples = local(reading.batches)
        return logs, reading.skipped(examples)

      return tickets.training_function(train_here)
    trainer = TicketTrainer(self, source, communication)

    def train(ticket, *numbers):
      reading = source.reading(ticket)
      logs, examples = trainer(reading.batches, *numbers)
      return logs, reading.skipped(examples)

    function = tickets.training_function(train)
    function.trainer = trainer
    return function

  def _make_scoring(self, source, *arguments):
    return tickets.scoring_function(lambda ticket: self._score_ticket(source, ticket, *arguments))

  def begin_tickets(self, first_number):
    """Called by `fit` before its first ticket, whose number is `first_number`."""
    if self._trainer is not None:
      self._trainer.begin(first_number)

  def apply_accumulated(self):
    """Applies what the tickets of a synchronous step have accumulated on the parameter servers, as one step."""
    if self._trainer is not None:
      self._trainer.apply_accumulated()

  def _score_ticket(self, source, ticket, features=()):
    """Everything that was scored in the ticket: {"y": ..., "y_pred": ..., "sample_weight": ...}, where there is one."""
    batches = source.open(ticket)
    score = tf.function(
      lambda batch: self.distribute_strategy.run(self._score_batch, args=(batch, features))
    )
    specs = score.get_concrete_function(batches.element_spec).structured_outputs
    parts = [
      tf.TensorArray(spec.dtype, 0, dynamic_size=True, infer_shape=False, element_shape=spec.shape)
      for spec in tf.nest.flatten(specs)
    ]
    iterator = iter(batches)

    def score_next(count, batch, parts):
      scored = tf.nest.flatten(score(batch.get_value()))
      parts = [part.write(count, value) for part, value in zip(parts, scored)]
      return count + 1, iterator.get_next_as_optional(), parts

    state = tf.constant(0), iterator.get_next_as_optional(), parts
    *_, parts = tf.while_loop(lambda count, batch, parts: batch.has_value(), score_next, state)
    return tf.nest.pack_sequence_as(specs, [part.concat() for part in parts])

  def _score_batch(self, batch, features):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    scored = {"y": y, "y_pred": self(x, training=False), "sample_weight": sample_weight}
    scored = {name: value for name, value in scored.items() if value is not None}
    if features:
      scored["features"] = {name: read_values(name, x[name]) for name in features}
    return scored

  @tf.function(reduce_retracing=True)
  def count_scored(self, scored):
    """Adds what `_score_ticket` returned to the metrics; returns {metric name: value}."""
    y, y_pred, sample_weight = scored["y"], scored["y_pred"], scored.get("sample_weight")
    self.compute_loss(None, y, y_pred, sample_weight)
    return self.compute_metrics(None, y, y_pred, sample_weight)


class _FunctionalModel(Model, Functional):
  """What tfps.Model(inputs, outputs) makes."""

  _TF_MODULE_IGNORED_PROPERTIES = (
    Model._TF_MODULE_IGNORED_PROPERTIES | Functional._TF_MODULE_IGNORED_PROPERTIES
  )


def _is_functional(args, kwargs):
  return (
    len(args) == 2
    or (len(args) == 1 and "outputs" in kwargs)
    or {"inputs", "outputs"} <= set(kwargs)
  )


def _first_label(y, click_label):
  """The label that is the click, flattened to [B]."""
  if isinstance(y, dict):
    y = y[next(iter(y)) if click_label is None else click_label]
  elif isinstance(y, (list, tuple)):
    y = y[click_label or 0]
  elif y.shape.rank == 2:
    y = y[:, click_label or 0]
  return tf.reshape(y, [-1])


def check_features(source, names):
  """Raises ValueError unless the examples of `source` have features of all these names."""
  x, _, _ = keras.utils.unpack_x_y_sample_weight(source.element_spec)
  there = list(x) if isinstance(x, dict) else []
  for name in names:
    if name not in there:
      near = difflib.get_close_matches(name, there, 1)
      hint = f" (did you mean '{near[0]}'?)" if near else ""
      raise ValueError(
        f"the source's examples have no feature '{name}'{hint}; they have {', '.join(there) or 'none'}."
      )


def _refuse_with_source(**arguments):
  given = [name for name, value in arguments.items() if value is not None]
  if given:
    raise ValueError(
      f"{given[0]} does not go with a tfps.data source, whose batches hold everything; set it on the source."
    )
