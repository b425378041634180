"""The ways in which a program runs, and what is seen of it."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import tempfile
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

import tfps
from tests.keras_judge.data import ArraySource, Data
from tfps.graph import compat
from tfps.layers.embedding import tables_of

Program = Callable[["Way"], Any]


class Seen(NamedTuple):
  """What was seen of a program.

  Fields:
    values: {name: a nest of arrays, numbers and strings}.
    error: "" or "ErrorType: message", with which the program ended.
  """

  values: dict[str, Any]
  error: str


class Way:
  """On arrays, by stock Keras: what is right.

  Programs make their models of `Model`, or of `TableModel` where they have a table, and call the
  way's `fit`, `evaluate` and `predict` in the place of the model's.
  """

  name = "arrays"
  on_source = False
  Model: type = keras.Model
  TableModel: type = tfps.Model

  def __init__(self) -> None:
    self.values: dict[str, Any] = {}
    self._sources: dict[int, tuple[Data, ArraySource]] = {}
    self._folders = contextlib.ExitStack()

  def see(self, name: str, value: Any) -> None:
    """Keeps a value under a name; a second one of that name under another."""
    unique, number = name, 1
    while unique in self.values:
      number += 1
      unique = f"{name} {number}"
    self.values[unique] = tf.nest.map_structure(_plain, value)

  def fit(
    self, model: Any, data: Data, validation: Data | None = None, name: str = "", **arguments: Any
  ) -> Any:
    """Trains and sees the history."""
    history = self._fit(model, data, validation, {"verbose": 0, **arguments})
    self._see_each(f"{name}fit", history.history)
    self.see(f"{name}fit epochs", history.epoch)
    return history

  def evaluate(self, model: Any, data: Data, name: str = "", **arguments: Any) -> None:
    """Evaluates and sees the dict."""
    arguments = {"verbose": 0, "return_dict": True, **arguments}
    self._see_each(f"{name}evaluate", self._evaluate(model, data, arguments))

  def evaluate_list(self, model: Any, data: Data) -> None:
    """Evaluates and sees the list."""
    self.see("evaluate list", self._evaluate(model, data, {"verbose": 0}))

  def predict(self, model: Any, data: Data, name: str = "", **arguments: Any) -> Any:
    """Predicts and sees the predictions."""
    found = self._predict(
      model, Data(data.x, batch_size=data.batch_size), {"verbose": 0, **arguments}
    )
    self.see(f"{name}predict", found)
    return found

  def all(self, model: Any, data: Data, validation: Data | None = None, **arguments: Any) -> Any:
    """Fits, evaluates and predicts; sees all of it, and the model."""
    self.test(model, data, validation, **arguments)
    self.predict(model, data)
    return model

  def train(self, model: Any, data: Data, validation: Data | None = None, **arguments: Any) -> None:
    """Fits and sees the model: for what shows in histories and weights if it shows at all."""
    self.see_model(model, "initial ")
    self.fit(model, data, validation, **{"epochs": 2, **arguments})
    self.see_model(model)

  def test(self, model: Any, data: Data, validation: Data | None = None, **arguments: Any) -> None:
    """Trains and evaluates: for what cannot differ in `predict` alone."""
    self.train(model, data, validation, **arguments)
    self.evaluate(model, validation or data)

  def learn(self, model: Any, data: Data) -> None:
    """Trains and predicts: for what cannot differ in `evaluate` alone."""
    self.train(model, data)
    self.predict(model, data)

  def see_model(self, model: Any, name: str = "") -> None:
    """Sees weights, what the optimizer holds, and rows."""
    for variable in model.weights:
      self.see(f"{name}weight {variable.name}", variable)
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and name != "initial ":
      held = optimizer.variables
      for number, variable in enumerate(held() if callable(held) else held):
        self.see(f"{name}optimizer {number}", variable)
    for table in tables_of(model):
      self.see_table(table, name)

  def see_table(self, table: tfps.FeasignTable, name: str = "") -> None:
    """Sees the rows of the keys 1 to 40."""
    for column, value in table.lookup(np.arange(1, 41)).items():
      self.see(f"{name}rows of {table.name}: {column}", value)

  def folder(self) -> str:
    """A new folder that goes when the program has ended."""
    return self._folders.enter_context(tempfile.TemporaryDirectory())

  def end(self) -> None:
    """Removes folders."""
    self._folders.close()

  def printed(self, function: Callable[[], Any]) -> str:
    """What `function` writes to stdout, without times."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
      function()
    text = re.sub(r"[\b\r]+", "\r", out.getvalue())
    return re.sub(r" *-? *(ETA: )?\d+m?u?s(/step|/epoch)?", "", text)

  def _see_each(self, name: str, found: dict[str, Any]) -> None:
    self.see(f"{name} keys", list(found))
    for key, value in found.items():
      self.see(f"{name} {key}", value)

  def _fit(self, model: Any, data: Data, validation: Data | None, arguments: dict) -> Any:
    return model.fit(
      data.x,
      data.y,
      sample_weight=data.sample_weight,
      validation_data=None if validation is None else validation.arrays(),
      **{"batch_size": data.batch_size, "shuffle": False, **arguments},
    )

  def _evaluate(self, model: Any, data: Data, arguments: dict) -> Any:
    return model.evaluate(
      data.x,
      data.y,
      sample_weight=data.sample_weight,
      **{"batch_size": data.batch_size, **arguments},
    )

  def _predict(self, model: Any, data: Data, arguments: dict) -> Any:
    return model.predict(data.x, **{"batch_size": data.batch_size, **arguments})


class OneProcess(Way):
  """A source, in this process; a ticket has several batches."""

  name = "one process"
  on_source = True
  Model = tfps.Model
  batches_per_ticket = 3

  def source(self, data: Data) -> ArraySource:
    """The data as a source, the same one each time."""
    if id(data) not in self._sources:
      self._sources[id(data)] = data, ArraySource(data, self.batches_per_ticket)
    return self._sources[id(data)][1]

  def _fit(self, model, data, validation, arguments):
    if validation is not None:
      arguments = {"validation_data": self.source(validation), **arguments}
    return model.fit(self.source(data), **arguments)

  def _evaluate(self, model, data, arguments):
    return model.evaluate(self.source(data), **arguments)

  def _predict(self, model, data, arguments):
    return model.predict(self.source(data), **arguments)


class Cluster(OneProcess):
  """A source, in `sync` on one worker: each batch is a ticket and a step."""

  name = "cluster"
  batches_per_ticket = 1

  def _fit(self, model, data, validation, arguments):
    communication = tfps.Communication(consistency="sync")
    return super()._fit(model, data, validation, {"communication": communication, **arguments})


def run(
  program: Program,
  make_way: Callable[[], Way],
  scope: Callable[[], Any] = contextlib.nullcontext,
) -> Seen:
  """Runs a program, in what `scope()` returns: that of a strategy.

  On arrays, AutoGraph at first leaves the code of Keras as it is, which saves time. It converts
  that, too, where this fails: where Keras calls Python conditions on tensors of the program's own.
  """
  if make_way is not Way:
    return _run(program, make_way, scope)
  with compat.unconverted("tf_keras"):
    found = _run(program, make_way, scope)
  if "OperatorNotAllowedInGraphError" in found.error:
    found = _run(program, make_way, scope)
  return found


def _run(program: Program, make_way: Callable[[], Way], scope: Callable[[], Any]) -> Seen:
  way = make_way()
  keras.backend.clear_session()
  keras.mixed_precision.set_global_policy("float32")
  keras.utils.set_random_seed(7)
  error = ""
  try:
    with scope():  # The session that was cleared had the strategies, too.
      program(way)
  except Exception as raised:  # Whoever compares says whether it is the one that is wanted.
    error = f"{type(raised).__name__}: {raised}"
    way.values["traceback"] = traceback.format_exc()
  finally:
    keras.mixed_precision.set_global_policy("float32")
    way.end()
  return Seen(way.values, error)


@functools.cache
def seen(program: Program, make_way: Callable[[], Way]) -> Seen:
  """`run`, once for each program and way."""
  return run(program, make_way)


def _plain(value: Any) -> Any:
  if isinstance(value, tf.RaggedTensor):
    return value.to_list()
  if isinstance(value, (tf.Tensor, tf.Variable)):
    value = value.numpy()
  if getattr(value, "dtype", None) == tf.bfloat16.as_numpy_dtype:
    value = value.astype(np.float32)
  return value
