"""What `tfps train` does with a config: build, fit and report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras as keras

from tfps import callbacks as tfps_callbacks
from tfps import cluster
from tfps.job import feeding, held_out, outputs, stopping, summary, warm_start
from tfps.job.model import make_model
from tfps.job.table import make_table
from tfps.training.communication import Communication
from tfps.training.nonfinite_steps import check_most

if TYPE_CHECKING:
  from tfps.data.source import Source
  from tfps.export.exporter import Exporter
  from tfps.table.feasign_table import FeasignTable
  from tfps.training.model import Model


def build(
  config: Any, model_class: Callable[..., Model], strategy: tf.distribute.Strategy
) -> tuple[FeasignTable, Model]:
  """Makes the table and the compiled model that `config` describes, in the scope of `strategy`."""
  keras.utils.set_random_seed(config.seed)
  if config.deterministic:
    tf.config.experimental.enable_op_determinism()
    # Random layers keep their states in variables, which a checkpoint can hold.
    keras.backend.experimental.enable_tf_random_generator()
  with strategy.scope():
    table = make_table(config)
    model = make_model(config, model_class, table)
    try:
      model.max_nonfinite_steps = check_most(config.max_nonfinite_steps)
    except ValueError as error:
      raise ValueError(f"config.{error}") from None
    try:
      optimizer = keras.optimizers.get(config.dense_optimizer.name)
    except ValueError:
      raise ValueError(
        f"config.dense_optimizer.name is '{config.dense_optimizer.name}', which is no optimizer of "
        "Keras; the usual ones are adam, adagrad, sgd, rmsprop and ftrl."
      ) from None
    optimizer.learning_rate = config.dense_optimizer.learning_rate
    outputs.set_click_label(model, config.click_label)
    feeding.correct_for(config, model)
    model.compile(optimizer, **outputs.compiled_with(config))
  return table, model


def run(
  config: Any,
  made: feeding.Made,
  model_class: Callable[..., Model],
  fill: Callable[[Any, FeasignTable], Any] | None = None,
  more_callbacks: Callable[[Any, FeasignTable], list] | None = None,
  validation: Source | None = None,
) -> summary.Summary:
  """Trains as `config` says, prints the summary and returns it.

  Args:
    config: ConfigDict with the fields of `tfps.training.config.default_config`.
    made: the `tfps.data` source, or {name: source}, of which `tfps.job.feeding` makes the one to
      train on.
    model_class: called as `tfps.job.model.make_model` does.
    fill: function of (config, table) that puts rows into the table of a run that begins, after
      `config.warm_start`.
    more_callbacks: function of (config, table) that returns Keras callbacks; an `EndOfDay` among
      them, with hooks of its own, takes the place of the usual one, and so does a
      `ProgressiveTest`.
    validation: the `tfps.data` source of held-out examples, for `config.validation`; by default
      the share of `config.held_out`.

  Returns:
    `tfps.job.summary.Summary`.
  """
  communication = make_communication(config)
  source, share = feeding.prepared(config, made)
  validation = share if validation is None else validation
  held_out.check(config, validation)
  strategy = cluster.strategy()
  table, model = build(config, model_class, strategy)
  outputs.check(config, model, source)
  warm_start.fill(config, table, fill)
  more = list(more_callbacks(config, table)) if more_callbacks else []
  ends = [callback for callback in more if isinstance(callback, tfps_callbacks.EndOfDay)]
  end_of_day = ends[0] if ends else tfps_callbacks.EndOfDay(table)
  throughput = tfps_callbacks.Throughput()
  tests = [one for one in more if isinstance(one, tfps_callbacks.ProgressiveTest)]
  test = tests[0] if tests else tfps_callbacks.ProgressiveTest(source, config.scored_outputs)
  tested = config.progressive_test and not source.is_endless and not tests
  callbacks: list[Any] = [test] if tested else []
  skipped = tfps_callbacks.SkippedRecords(config.tensorboard or None)
  callbacks += [throughput, skipped]
  freshness = None
  if source.is_endless:
    freshness = tfps_callbacks.Freshness(
      source, every_seconds=config.stream.report_seconds, log_dir=config.tensorboard or None
    )
    callbacks.append(freshness)
  exporter = None
  if config.export.folder:
    base, delta = _exports(config.export, model, source, freshness)
    exporter = base.exporter
    callbacks += [base, delta] if delta else [base]
  if config.end_of_day and not ends:
    callbacks.append(end_of_day)
  callbacks += more
  if config.checkpoint.folder:
    callbacks.append(_checkpoint(config.checkpoint, table, exporter))
  if config.tensorboard:
    callbacks.append(keras.callbacks.TensorBoard(config.tensorboard))
    callbacks.append(
      tfps_callbacks.TableSummaries(table, config.tensorboard, config.tensorboard_tickets)
    )
  validated = held_out.HeldOut()
  if validation is not None:
    callbacks += [*held_out.callbacks(config, table), validated]
  with stopping.on_sigterm(source):
    model.fit(
      source,
      epochs=config.epochs,
      callbacks=callbacks,
      validation_data=validation,
      verbose=0 if source.is_endless else 1,
      communication=communication,
    )
  result = summary.Summary(
    days=test.days,
    total=test.total,
    table=table.statistics(),
    evicted=end_of_day.evicted,
    examples=throughput.examples,
    examples_per_second=throughput.examples_per_second,
    stream=freshness.summary() if freshness else None,
    skipped=skipped.counts,
    nonfinite_steps=skipped.nonfinite_steps,
    epochs=validated.epochs,
  )
  print(result.text(), flush=True)
  if config.summary_file:
    with tf.io.gfile.GFile(config.summary_file, "w") as file:
      json.dump(result.as_dict(), file, indent=2)
  return result


def make_communication(config: Any) -> Communication:
  """The `tfps.Communication` of a config; raises ValueError, which names the field at fault."""
  try:
    return Communication(
      **{field.name: config[field.name] for field in dataclasses.fields(Communication)}
    )
  except ValueError as error:
    raise ValueError(f"config.{error}") from None


def _exports(
  settings: Any, model: Model, source: Source, freshness: tfps_callbacks.Freshness | None
) -> tuple[tfps_callbacks.BaseExport, tfps_callbacks.DeltaExport | None]:
  """(the BaseExport, the DeltaExport or None) of config.export."""
  settings = dict(settings)
  examples, minutes = (settings.pop(f"delta_every_{unit}") for unit in ("examples", "minutes"))
  settings["keep"] = settings["keep"] or None
  try:
    served = model.served_models() or model
    base = tfps_callbacks.BaseExport(served, raw=source.raw_inputs, **settings)
    if not examples and not minutes:
      return base, None
    delta = tfps_callbacks.DeltaExport(
      base.exporter,
      every_examples=examples or None,
      every_minutes=minutes or None,
      describe=freshness.take_events if freshness else None,
    )
  except ValueError as error:
    raise ValueError(f"config.export: {error}") from None
  return base, delta


def _checkpoint(
  settings: Any, table: FeasignTable, exporter: Exporter | None
) -> tfps_callbacks.Checkpoint:
  try:
    return tfps_callbacks.Checkpoint(
      **{
        **settings,
        "every_tickets": settings.every_tickets or None,
        "every_minutes": settings.every_minutes or None,
      },
      tables=[table],
      exporter=exporter,
    )
  except ValueError as error:
    raise ValueError(f"config.checkpoint: {error}") from None
