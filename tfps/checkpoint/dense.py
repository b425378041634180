"""The dense part of a checkpoint: Keras's weights, optimizer and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfps.checkpoint import structure
from tfps.checkpoint.manifest import DenseManifest
from tfps.checkpoint.structure import Difference
from tfps.errors import CheckpointError
from tfps.graph import compat, finite
from tfps.storage import files

if TYPE_CHECKING:
  import tf_keras as keras

PREFIX = "dense/model"
RANDOM_PREFIX = "dense/random"


def save(model: keras.Model, folder: str) -> None:
  """Writes the variables of a model, its optimizer, its metrics and its random layers.

  Raises:
    NonfiniteError: a weight, or a state of the optimizer, is not finite.
  """
  finite.check_model(model, "checkpoint")
  _checkpoint(model).write(files.join(folder, PREFIX))
  random = _random_states(model)
  if random is not None:
    random.write(files.join(folder, RANDOM_PREFIX))


def restore(
  model: keras.Model,
  folder: str,
  saved: DenseManifest | None = None,
  differences: Sequence[Difference] = (),
) -> list[str]:
  """Reads them back, where the model differs what fits.

  Args:
    model: the model.
    folder: the checkpoint.
    saved: what its dense weights belong to, if its manifest says so.
    differences: in what the model differs from that; see `structure.check`.

  Returns:
    What was done with each thing that differs, as half sentences.

  Raises:
    CheckpointError: in half a sentence, that another model saved them.
  """
  if saved is not None and differences:
    return _restore_what_fits(model, folder, saved, differences)
  _read(_checkpoint(model), folder, PREFIX, "the weights of this model")
  random = _random_states(model)
  # The run that saved it may have had none: Keras keeps them in variables only on request.
  if random is not None and tf.io.gfile.exists(files.join(folder, f"{RANDOM_PREFIX}.index")):
    _read(random, folder, RANDOM_PREFIX, "the states of this model's random layers")
  return []


def _restore_what_fits(
  model: keras.Model, folder: str, saved: DenseManifest, differences: Sequence[Difference]
) -> list[str]:
  """Reads back the weights that fit, and leaves the others as they are.

  A weight's states in the optimizer are read with it; metrics and random states begin anew.

  Args:
    model: the model.
    folder: the checkpoint.
    saved: what its dense weights belong to.
    differences: in what the model differs, at least one; see `structure.differences`.

  Returns:
    What was done with each thing that differs, as half sentences.
  """
  here, paths = structure.of(model), structure.paths_of(model)
  variables = {paths[id(one)]: one for one in model.weights if id(one) in paths}
  was = {weight.name: weight.shape for weight in saved.weights}
  read = _values(
    folder,
    {name: (was[name], variable.dtype) for name, variable in variables.items() if name in was},
  )
  told, whole = [one.text for one in differences if one.of_slots], 0
  by_place = not told  # Where slots differ, a weight's columns are not where they were.
  for name, variable in variables.items():
    if name not in read:
      told.append(f"weight '{name}' is new")
    elif was[name] == variable.shape.as_list():
      variable.assign(read[name])
      whole += 1
    else:
      value, what = structure.fitted(read[name], variable.numpy(), by_place)
      variable.assign(value)
      told.append(f"weight '{name}' {what}")
  told += [f"weight '{name}' is left out" for name in was if name not in variables]
  _restore_states(model, folder, saved, here)
  return [*told, f"the other {whole} weights are taken whole, and metrics begin anew"]


def _restore_states(
  model: keras.Model, folder: str, saved: DenseManifest, here: DenseManifest
) -> None:
  """Reads the optimizer's own variables, and its states of those weights that are read whole."""
  if model.optimizer is None:
    return
  was = {weight.name: weight.shape for weight in saved.weights}
  places = {weight.name: i for i, weight in enumerate(w for w in saved.weights if w.trainable)}
  trained = [weight.name for weight in here.weights if weight.trainable]
  alone, lists = _optimizer_variables(model.optimizer)
  wanted = dict(alone)
  for path, states in lists.items():
    for name, state in zip(trained, states) if len(states) == len(trained) else ():
      if name in places and was[name] == state.shape.as_list():
        wanted[f"{path}/{places[name]}"] = state
  specs = {
    f"optimizer/{path}": (variable.shape.as_list(), variable.dtype)
    for path, variable in wanted.items()
  }
  for path, value in _values(folder, specs).items():
    wanted[path.removeprefix("optimizer/")].assign(value)


def _optimizer_variables(
  optimizer: Any,
) -> tuple[dict[str, tf.Variable], dict[str, list[tf.Variable]]]:
  """({path in the optimizer: a variable}, {path: a list of variables}), not the lists' elements."""
  view = tf.train.TrackableView(optimizer)
  alone: dict[str, tf.Variable] = {}
  lists: dict[str, list[tf.Variable]] = {}
  waiting, seen = [("", optimizer)], set()
  while waiting:
    path, node = waiting.pop()
    children = view.children(node)
    seen.add(id(node))
    variables = [child for child in children.values() if isinstance(child, tf.Variable)]
    if variables and list(children) == [str(i) for i in range(len(variables))]:
      lists[path] = variables
      continue
    for name, child in children.items():
      below = f"{path}/{name}".lstrip("/")
      if isinstance(child, tf.Variable):
        alone[below] = child
      elif id(child) not in seen:
        waiting.append((below, child))
  return alone, lists


def _values(folder: str, specs: Mapping[str, tuple[list[int], tf.DType]]) -> dict[str, np.ndarray]:
  """The values of those of a model's variables that a checkpoint has.

  Args:
    folder: the checkpoint.
    specs: {path in the model: (shape, dtype)}.
  """
  tree: dict[str, Any] = {}
  variables = {}
  for path, (shape, dtype) in specs.items():
    *parents, name = path.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    # What is not there keeps a value that none has.
    nothing = np.full(shape, np.nan if dtype.is_floating else dtype.min, dtype.as_numpy_dtype)
    node[name] = variables[path] = tf.Variable(nothing, dtype=dtype)
  with tf.device("/device:CPU:0"):
    checkpoint = tf.train.Checkpoint(model=tree)
  try:
    checkpoint.read(files.join(folder, PREFIX)).expect_partial()
  except (ValueError, tf.errors.InvalidArgumentError) as error:
    reason = " ".join(str(error).split())
    raise CheckpointError(f"{PREFIX} does not hold what its manifest says: {reason}") from error
  values = {path: variable.numpy() for path, variable in variables.items()}
  return {
    path: value
    for path, value in values.items()
    if not (
      np.isnan(value)
      if value.dtype.kind == "f"
      else value == value.dtype.type(np.iinfo(value.dtype).min)
    ).all()
  }


def _read(checkpoint: tf.train.Checkpoint, folder: str, prefix: str, what: str) -> None:
  try:
    status = checkpoint.read(files.join(folder, prefix))
    status.assert_existing_objects_matched()
  except (AssertionError, ValueError, tf.errors.InvalidArgumentError) as error:
    reason = " ".join(str(error).split())
    raise CheckpointError(f"{prefix} does not hold {what}: {reason}") from error


def _checkpoint(model: keras.Model) -> tf.train.Checkpoint:
  # The optimizer is an attribute of the model, and so is included.
  return tf.train.Checkpoint(model=model, metrics=list(model.metrics))


def _random_states(model: keras.Model) -> tf.train.Checkpoint | None:
  """A checkpoint of the random layers' generators (Dropout and the like), None if there are none.

  Keras shows them to a SavedModel only, not to a checkpoint.
  """
  generators = compat.random_generators(model)
  return tf.train.Checkpoint(generators=generators) if generators else None
