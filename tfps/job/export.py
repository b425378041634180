"""A base from a checkpoint, without training: what `tfps export` does."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfps.checkpoint import CheckpointError, dense, reader, structure
from tfps.checkpoint import tables as tables_lib
from tfps.errors import ConfigError
from tfps.export import artifact, base_artifact, extras, trained
from tfps.export.artifact import ARTIFACTS
from tfps.export.manifests import BaseManifest
from tfps.export.saved_capture import CapturedRows, SavedCapture, WantedKeys
from tfps.export.served.model import ServedModel
from tfps.export.target import of_models
from tfps.job import feeding
from tfps.job import train as training
from tfps.layers.embedding import row_widths, slots_of, tables_of
from tfps.storage import files

if TYPE_CHECKING:
  import tf_keras as keras

  from tfps.data.raw_inputs import RawInputs
  from tfps.table.feasign_table import FeasignTable
  from tfps.training.model import Model

_DEVICES = ["/device:CPU:0"]


def export(
  path: str,
  config: Any,
  made: feeding.Made,
  model_class: Callable[..., Model],
  output: str = "",
  progress: reader.Progress = reader.no_progress,
) -> str | dict[str, str]:
  """Writes the base that a trainer would have exported at the moment of a checkpoint.

  Only the dense weights are restored; rows stream from the checkpoint into the artifact. It begins
  a lineage of its own, so that no trainer's delta goes on top of it.

  Args:
    path: a checkpoint, or a folder of checkpoints, whose newest is exported.
    config: ConfigDict with the fields of `tfps.training.config.default_config`.
    made: the `tfps.data` source, with raw inputs, or {name: source}.
    model_class: as for `tfps.job.train.run`.
    output: the folder of exports; `config.export.folder` by default.
    progress: a function of (iterator of shards, their number) that returns it with a progress bar.

  Returns:
    The artifact's path; {name: path} of a model with `served_models`.

  Raises:
    ConfigError: there is no folder to write to, or the source has no raw inputs.
    CheckpointError: the checkpoint is missing or damaged, or is not one of this model.
    ExportError: the model cannot be served.
    LockError: another process exports to the folder.
  """
  output = output or config.export.folder
  if not output:
    raise ConfigError("There is nowhere to export to: give --output, or set config.export.folder.")
  source, _ = feeding.prepared(config, made)
  raw = source.raw_inputs
  if raw is None:
    raise ConfigError(
      "The source does not say what clients of the served model send: set its raw_inputs to a "
      "tfps.data.RawInputs."
    )
  extras.check_serving_api()
  checkpoint = reader.open_checkpoint(path)
  _, model = training.build(config, model_class, tf.distribute.get_strategy())
  model.build_for(source)
  tables = tables_of(model)
  _restore_dense(checkpoint, model, tables)
  step, output = int(model.optimizer.iterations.numpy()), output.rstrip("/")
  parts = model.served_models()
  raws = of_models(raw, parts or {"": model}, "raw_inputs")
  paths = {}
  for name, part in (parts or {"": model}).items():
    folder = files.join(output, *filter(None, [name]), "base")
    with artifact.hold(folder):
      paths[name] = _write(
        folder, checkpoint, part, step, raws[name], config.export.examples, progress
      )
  return paths if parts else paths[""]


def _write(
  folder: str,
  checkpoint: reader.SavedCheckpoint,
  model: keras.Model,
  step: int,
  raw: RawInputs,
  examples: int,
  progress: reader.Progress,
) -> str:
  tables = tables_of(model)
  day = checkpoint.manifest.calendar.get("day")
  sample = raw.sample(day, examples) if raw.sample is not None and day is not None else None
  inputs = base_artifact.raw_arrays(raw, raw.empty_batch() if sample is None else sample)
  version = ARTIFACTS.next_number(folder)
  lineage = uuid.uuid4().hex
  served = ServedModel(model, raw, lineage, version)
  features = served.inputs.from_raw(base_artifact.tensors(raw, inputs))
  wanted = {table: WantedKeys(table) for table in tables}
  trained.predict(model, features, tables, wanted.__getitem__)
  slots, widths = slots_of(model), row_widths(model)
  captures = {
    table.name: SavedCapture(
      table,
      checkpoint.tables[table.name],
      slots[table],
      widths[table],
      wanted[table].keys,
      progress,
    )
    for table in tables
  }
  prediction = None
  if sample is not None:
    prediction = trained.predict(
      model, features, tables, lambda table: CapturedRows(captures[table.name])
    )
  manifest = BaseManifest(
    version=version,
    lineage=lineage,
    day=day,
    step=step,
    checkpoint=checkpoint.path,
    pause_seconds=0.0,
  )
  weights = served.packed_weights.read()
  return base_artifact.prepare(
    folder, served, captures, weights, inputs, features, prediction, manifest, _DEVICES
  ).publish()


def _restore_dense(
  checkpoint: reader.SavedCheckpoint, model: Model, tables: Sequence[FeasignTable]
) -> None:
  try:
    for table, saved in tables_lib.pair(tables, checkpoint.manifest.tables):
      tables_lib.check(table, saved)
    if checkpoint.manifest.dense is not None:
      structure.check(checkpoint.manifest.dense, structure.of(model))
    dense.restore(model, checkpoint.path)
  except CheckpointError as error:
    raise CheckpointError(
      f"Checkpoint {checkpoint.path} does not fit: {error}; export it with the config that it was "
      "trained with."
    ) from error
