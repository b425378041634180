"""Every private API of TensorFlow, Keras and Python that tfps uses; no other file touches one.

`PRIVATE` lists them with the versions that each was tried on. An API is looked up when it is
needed. If it is gone, only the code that needs it stops, with one sentence: a
`tfps.errors.PrivateApiError`. `missing()` looks up all of them.

Semi-private APIs count, too: attributes that no documentation names, and texts that TensorFlow
writes and tfps reads.

This module imports neither TensorFlow nor Keras by itself, for programs that never start
TensorFlow.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import importlib
import inspect
import pathlib
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from tfps import versions
from tfps.errors import PrivateApiError

_Class = TypeVar("_Class", bound=type)

# All APIs are in all of these: tests/test_compat.py looks, and `make matrix` runs it on each.
_TENSORFLOW = versions.RELEASES
_KERAS = ("2.16.0", "2.17.0", "2.18.0", "2.19.0", "2.20.1", "2.21.0")


@dataclasses.dataclass(frozen=True)
class Private:
  """One private API.

  Attributes:
    module: the module that has it.
    path: its name in the module, with dots; "" for the module itself.
    text: what its source code says, for an attribute of instances or a text that tfps repeats.
    tried: the versions of the module's package that it was tried on.
  """

  module: str
  path: str
  text: str = ""
  tried: tuple[str, ...] = ()

  def __str__(self) -> str:
    name = f"{self.module}.{self.path}".rstrip(".")
    return name + (f" with {self.text!r}" if self.text else "")

  @property
  def package(self) -> str:
    """The name of its package."""
    return self.module.partition(".")[0]

  @property
  def versions(self) -> tuple[str, ...]:
    """The versions of its package that it was tried on."""
    return self.tried or (_KERAS if self.package == "tf_keras" else _TENSORFLOW)

  def get(self) -> Any:
    """The API itself.

    Raises:
      PrivateApiError: it is gone.
    """
    try:
      found: Any = importlib.import_module(self.module)
      for name in filter(None, self.path.split(".")):
        found = getattr(found, name)
      if not _says(found, self.text):
        raise AttributeError(self.text)
    except (ImportError, AttributeError) as error:
      raise self.gone() from error
    return found

  def gone(self) -> PrivateApiError:
    """The error that says so."""
    try:
      running = f"{self.package} {importlib.import_module(self.package).__version__}"
    except (ImportError, AttributeError):
      running = f"this {self.package}"
    return PrivateApiError(
      f"{running} has no {self}, a private API that tfps uses and that was tried on {self.package} "
      f"{', '.join(self.versions)}: install one of these versions, or a newer tfps."
    )


@functools.cache
def _says(found: Any, text: str) -> bool:
  """Whether the source code of `found` has `text`; True if the source is not installed."""
  try:
    return text in inspect.getsource(found) if text else True
  except OSError:
    return True


_CONVERSION_RULES = Private("tensorflow.python.autograph.core.config", "CONVERSION_RULES")
_CONVERT = Private("tensorflow.python.autograph.core.config", "Convert")
_DO_NOT_CONVERT = Private("tensorflow.python.autograph.core.config", "DoNotConvert")
_UNCONVERTED = Private("tensorflow.python.autograph.impl.conversion", "_ALLOWLIST_CACHE")
_AUTOGRAPH_STATUS = Private("tensorflow", "__internal__.autograph.control_status_ctx")
_AUTOGRAPH_CONVERT = Private("tensorflow", "__internal__.autograph.tf_convert")
_CONTEXT = Private("tensorflow.python.eager.context", "context")
_ADD_FUNCTION = Private("tensorflow.python.eager.context", "Context.add_function_def")
_ANONYMOUS_NAME = Private("tensorflow.python.eager.context", "anonymous_name")
_OP_DEFINITION = Private("tensorflow.python.framework.op_def_registry", "get")
_SCRIPT_OPS = "tensorflow.python.ops.script_ops"
_PYTHON_FUNCTIONS = Private(_SCRIPT_OPS, "_py_funcs")
_PYTHON_FUNCTION = Private(_SCRIPT_OPS, "FuncRegistry.get", "self._funcs")
_CAPTURES = Private("tensorflow", "__internal__.FuncGraph.captures")
_CAPTURE = Private("tensorflow", "__internal__.FuncGraph.capture")
_DEFERRED = Private("tensorflow", "__internal__.FuncGraph.deferred_internal_captures")
_DEFERRED_FROM = Private("tensorflow", "__internal__.FuncGraph.deferred_external_captures")
_CAPTURE_LATE = Private("tensorflow", "__internal__.FuncGraph.capture_call_time_value")
_CONTROL_OUTPUTS = Private("tensorflow", "__internal__.FuncGraph.__init__", "self.control_outputs")
_SAVED_MODEL = Private("tensorflow.core.protobuf.saved_model_pb2", "SavedModel")
_MODULE_IGNORED = Private("tensorflow", "Module._TF_MODULE_IGNORED_PROPERTIES")
_TABLE = "lookup.experimental.DenseHashTable"
_TABLE_BUCKETS = Private("tensorflow", f"{_TABLE}.__init__", "self._initial_num_buckets")
_TABLE_SAVE = Private("tensorflow", f"{_TABLE}._serialize_to_tensors")
_TABLE_RESTORE = Private("tensorflow", f"{_TABLE}._restore_from_tensors")
_COORDINATOR = "tensorflow.python.distribute.coordinator.cluster_coordinator"
_ORIGINAL_EXCEPTION = Private(_COORDINATOR, "PSUnavailableError", "self.original_exception")

_FUNCTIONAL = Private("tf_keras.src.engine.functional", "Functional")
_SCRATCH_GRAPH = Private(
  "tf_keras.src.engine.base_layer", "Layer._infer_output_signature", "_scratch_graph"
)
_USES_AUTOGRAPH = Private("tf_keras", "layers.Layer._should_use_autograph")
_IS_COMPILED = Private("tf_keras", "Model._assert_compile_was_called")
_VALIDATE_LOSS = Private("tf_keras", "Model._validate_target_and_loss")
_COMPILED_LOSS = Private("tf_keras", "Model.compile", "self.compiled_loss")
_SAVED_CHILDREN = Private("tf_keras", "layers.Layer._trackable_children")
_SAVER = Private("tf_keras", "layers.Layer._trackable_saved_model_saver")
_TRAIN_COUNTER = Private("tf_keras", "Model._init_batch_counters", "self._train_counter")
_LOSSES = "tf_keras.src.engine.compile_utils"
_LOSSES_BUILT = Private(_LOSSES, "LossesContainer.built")
_METRICS_BUILT = Private(_LOSSES, "MetricsContainer.built")
_LOSS_OBJECT = Private(_LOSSES, "LossesContainer.build", "self._get_loss_object")
_LOSS_WEIGHTS = Private(_LOSSES, "LossesContainer.build", "self._loss_weights = tf.nest.flatten(")
_LOSS_LIST = Private(_LOSSES, "LossesContainer.build", "self._losses = tf.nest.flatten(")
_BATCH_HOOKS = Private("tf_keras", "callbacks.CallbackList._disallow_batch_hooks_in_ps_strategy")
_CHECK_TIMING = Private("tf_keras", "callbacks.CallbackList.__init__", "self._check_timing")
_JOIN_OUTPUTS = Private("tf_keras.src.engine.training", "potentially_ragged_concat")
_CLASS_WEIGHT = Private("tf_keras.src.engine.data_adapter", "_make_class_weight_map_fn")
_RANDOM_LAYER = Private("tf_keras", "layers.Dropout.call", "self._random_generator")
_RANDOM_STATE = Private("tf_keras.src.backend", "RandomGenerator", "self._generator")

# What the coordinator logs of every failed closure, with all traces, before it raises the error.
COORDINATOR_LOGS = (
  "Start cancelling closures",
  "Remote function on worker",
  " %s encountered the following error",
  " /job:worker",
  # Said when a step is traced on the chief, before the first ticket is scheduled.
  "A `tf.distribute.experimental.ParameterServerStrategy` method is invoked without",
)

# Attributes of nodes and functions of a GraphDef.
COLOCATION = "_class"
INPUT_SHAPES = "_input_shapes"
CONSTRUCTION_CONTEXT = "_construction_context"

# How the name of a variable ends in a tf.train.Checkpoint.
VARIABLE_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"

# The attributes in which Keras's optimizers keep their variables: {attribute: optimizers}.
_OPTIMIZER_VARIABLES = {
  attribute: [
    Private("tf_keras", f"optimizers.{optimizer}.build", f"self.{attribute} =")
    for optimizer in optimizers
  ]
  for attribute, optimizers in {
    "momentums": ["SGD", "Lion"],
    "_momentums": ["Adam", "AdamW", "Nadam", "RMSprop"],
    "_velocities": ["Adam", "AdamW", "Nadam", "RMSprop"],
    "_average_gradients": ["RMSprop"],
    "_accumulators": ["Adagrad", "Ftrl"],
    "_linears": ["Ftrl"],
    "_accumulated_grads": ["Adadelta"],
    "_accumulated_delta_vars": ["Adadelta"],
    "_m": ["Adamax"],
    "_u": ["Adamax"],
    "_model_variables_moving_average": ["Optimizer"],
  }.items()
}

PRIVATE = (
  *(api for api in list(globals().values()) if isinstance(api, Private)),
  *(Private(_COORDINATOR, "", text) for text in COORDINATOR_LOGS[:2]),
  *(api for apis in _OPTIMIZER_VARIABLES.values() for api in apis),
)


def missing() -> list[str]:
  """One sentence for each private API that the installed TensorFlow and Keras lack."""
  sentences = []
  for api in PRIVATE:
    try:
      api.get()
    except PrivateApiError as error:
      sentences.append(str(error))
  try:
    c_api([])
  except PrivateApiError as error:
    sentences.append(str(error))
  return sentences


# AutoGraph.


@contextlib.contextmanager
def unconverted(*packages: str) -> Iterator[None]:
  """While it is active, AutoGraph leaves the code of these packages, and of no others, as it is.

  It converts the one layer of Keras that has a condition on a tensor, SpectralNormalization.
  """
  import tf_keras as keras

  convert, do_not_convert, rules = _CONVERT.get(), _DO_NOT_CONVERT.get(), _CONVERSION_RULES.get()
  config: Any = importlib.import_module(_CONVERSION_RULES.module)
  conditional: Any = keras.layers.SpectralNormalization
  _stock_rules.append(_stock_rules[0] if _stock_rules else rules)
  config.CONVERSION_RULES = (
    convert(conditional.__module__),
    *map(do_not_convert, packages),
    *_stock_rules[0],
  )
  # What AutoGraph has left as it is, it leaves so: else it would in a stock model's fit, too.
  conversion: Any = importlib.import_module(_UNCONVERTED.module)
  left = _UNCONVERTED.get()
  conversion._ALLOWLIST_CACHE = _left_of(packages)
  # Layer.__call__, which is not converted, asks it.
  _USES_AUTOGRAPH.get()
  before = conditional._should_use_autograph
  conditional._should_use_autograph = lambda self: True
  try:
    yield
  finally:
    conditional._should_use_autograph = before
    conversion._ALLOWLIST_CACHE = left
    config.CONVERSION_RULES = rules
    _stock_rules.pop()


_stock_rules: list[Any] = []  # For each active `unconverted` those before the outermost.


@functools.cache
def _left_of(packages: tuple[str, ...]) -> Any:
  """What AutoGraph knows to be left as it is where `packages` are."""
  return type(_UNCONVERTED.get())()


def converted(function: Callable) -> Callable:
  """The function as AutoGraph converts it, where AutoGraph is at work; else the function itself."""
  status = _AUTOGRAPH_STATUS.get()()
  if status.status.name != "ENABLED":
    return function
  return _AUTOGRAPH_CONVERT.get()(function, status)


# Graphs.


def add_function(function_def: Any) -> None:
  """Makes a FunctionDef known to every graph of this process."""
  _ADD_FUNCTION.get()(_CONTEXT.get()(), function_def)


def anonymous_name() -> str:
  """The shared_name that makes an op create a new resource at every run."""
  return _ANONYMOUS_NAME.get()()


def is_stateful(op: str) -> bool:
  """Whether the op named `op` has state; False for a function."""
  definition = _OP_DEFINITION.get()(op)
  return definition is not None and definition.is_stateful


def register_python_function(token: str, function: Callable) -> None:
  """Lets the op PyFunc call a function in this process, by a token of one's own choice.

  TensorFlow numbers the functions of tf.numpy_function, so that a process knows only its own.
  """
  if token not in _registered:
    _registered[token] = function  # TensorFlow's list does not keep it alive.
    _PYTHON_FUNCTION.get()
    _PYTHON_FUNCTIONS.get()._funcs[token] = function


_registered: dict[str, Callable] = {}


def captures(graph: Any) -> list[tuple[Any, Any]]:
  """(what it captured, the placeholder that stands for it) of the graph of a ConcreteFunction."""
  _CAPTURES.get()
  return list(graph.captures)


def capture(graph: Any, tensor: Any) -> Any:
  """What stands in the graph of a function for a tensor from outside."""
  return _CAPTURE.get()(graph, tensor)


def deferred_captures(graph: Any) -> list[tuple[Callable[[], Any], Any]]:
  """(function that finds it, placeholder) of each tensor that a ConcreteFunction gets when called.

  Such is the handle of a lookup table on a cluster: each worker has a copy of the table.
  """
  _DEFERRED.get()
  _DEFERRED_FROM.get()
  return list(zip(graph.deferred_external_captures, graph.deferred_internal_captures))


def capture_late(graph: Any, find: Callable[[], Any], placeholder: Any) -> Any:
  """What stands in a graph for one of the `deferred_captures` of another graph."""
  import tensorflow as tf

  _CAPTURE_LATE.get()
  outermost = graph
  while hasattr(outermost.outer_graph, "capture_call_time_value"):
    outermost = outermost.outer_graph
  spec = tf.TensorSpec(placeholder.shape, placeholder.dtype)
  value = lambda: tf.nest.flatten(find())[0]
  captured = outermost.capture_call_time_value(value, spec, key=find)
  return captured if outermost is graph else capture(graph, captured)


def control_outputs(graph: Any) -> list[Any]:
  """The operations that the graph of a ConcreteFunction runs for their effect."""
  _CONTROL_OUTPUTS.get()
  return list(graph.control_outputs)


def saved_model_message() -> Any:
  """The protobuf class SavedModel: of the file saved_model.pb."""
  return _SAVED_MODEL.get()


# Keras models and callbacks.


def functional_model() -> type:
  """The class of Keras's functional models."""
  return _FUNCTIONAL.get()


def in_scratch_graph() -> bool:
  """Whether Keras runs a layer on placeholders only, to learn its output's shapes."""
  import tensorflow as tf

  _SCRATCH_GRAPH.get()
  return getattr(tf.compat.v1.get_default_graph(), "name", "").endswith(_SCRATCH_GRAPH.text)


def assert_compiled(model: Any) -> None:
  """Raises RuntimeError, in Keras's words, if the model was not compiled."""
  _IS_COMPILED.get()(model)


def validate_target_and_loss(model: Any, target: Any, loss: Any) -> None:
  """Raises ValueError, in Keras's words, if the target or the compiled loss is missing."""
  _VALIDATE_LOSS.get()(model, target, loss)


def has_compiled_loss(model: Any) -> bool:
  """Whether the model was compiled with a loss."""
  _COMPILED_LOSS.get()
  return model.compiled_loss is not None


def has_built_metrics(model: Any) -> bool:
  """Whether the model has made the metrics of its compiled losses, and its compiled metrics."""
  _LOSSES_BUILT.get()
  _METRICS_BUILT.get()
  containers = model.compiled_loss, model.compiled_metrics
  return all(container is None or container.built for container in containers)


def wrap_losses(model: Any, wrap: Callable[[Any], Any]) -> None:
  """Lets a model that was compiled just now compute `wrap(loss)` for each keras.losses.Loss."""
  _LOSS_OBJECT.get()
  container = model.compiled_loss
  inner = container._get_loss_object
  container._get_loss_object = lambda loss: None if loss is None else wrap(inner(loss))


def loss_weights(model: Any) -> dict[int, Any]:
  """{id of a loss that the model computes: its weight, or None}, once it has computed them."""
  _LOSS_WEIGHTS.get()
  _LOSS_LIST.get()
  container = model.compiled_loss
  if container is None or not container.built:
    return {}
  return {id(loss): weight for loss, weight in zip(container._losses, container._loss_weights)}


def join_outputs(outputs: list[Any]) -> Any:
  """Joins tensors along the first dimension as Keras's `predict` does; scalars become a vector."""
  return _JOIN_OUTPUTS.get()(outputs)


def class_weighted(class_weight: dict[int, float]) -> Callable[..., tuple]:
  """Keras's function of a batch's (x, y, ...) that returns (x, y, sample_weight)."""
  return _CLASS_WEIGHT.get()(class_weight)


def untracked(*names: str) -> Callable[[_Class], _Class]:
  """A class decorator for a tf.Module, which then ignores what these attributes hold."""

  def decorate(cls: _Class) -> _Class:
    _MODULE_IGNORED.get()
    inherited = [vars(base).get("_TF_MODULE_IGNORED_PROPERTIES", ()) for base in cls.__mro__]
    changed: Any = cls
    changed._TF_MODULE_IGNORED_PROPERTIES = frozenset(names).union(*inherited)
    return cls

  return decorate


def never_in_saved_model(cls: _Class) -> _Class:
  """A class decorator for a Keras layer or model, whose `check_saved_model()` is called first.

  Whoever saves it, or something that has it, as a SavedModel then gets the error that it raises.
  """
  _SAVED_CHILDREN.get()
  _SAVER.get()
  changed: Any = cls

  def children(self: Any, save_type: str = "checkpoint", **kwargs: Any) -> Any:
    if save_type == "savedmodel":
      self.check_saved_model()
    return super(changed, self)._trackable_children(save_type, **kwargs)

  def saver(self: Any) -> Any:
    # A model that is saved traces its layers before it comes to their children.
    self.check_saved_model()
    return super(changed, self)._trackable_saved_model_saver

  changed._trackable_children = children
  changed._trackable_saved_model_saver = property(saver)
  return cls


def count_trained(model: Any, number: int) -> None:
  """Tells a model how many batches its `fit` has trained so far, for callbacks that ask it."""
  _TRAIN_COUNTER.get()
  model._train_counter.assign(number)


def with_batch_hooks(cls: _Class) -> _Class:
  """A class decorator for a Keras CallbackList, which then calls batch hooks under any strategy.

  Keras refuses batch hooks under a ParameterServerStrategy, because its logs are remote values
  there. It also warns about hooks that take longer than a batch; the decorated class does not.
  """
  _BATCH_HOOKS.get()
  _CHECK_TIMING.get()
  changed: Any = cls
  changed._disallow_batch_hooks_in_ps_strategy = lambda self: None
  changed._check_timing = property(lambda self: False, lambda self, value: None)
  return cls


def random_generators(model: Any) -> list[Any]:
  """The tf.random.Generators of a model's random layers (Dropout and the like)."""
  import tensorflow as tf

  _RANDOM_LAYER.get()
  _RANDOM_STATE.get()
  layers = (getattr(layer, "_random_generator", None) for layer in model.submodules)
  generators = (getattr(layer, "_generator", None) for layer in layers)
  return [one for one in generators if isinstance(one, tf.random.Generator)]


def optimizer_variables(optimizer: Any, name: str) -> list[Any]:
  """The variables of a built Keras optimizer that it keeps under `name`, one for each weight.

  The list is empty if the optimizer's settings need no such variables: RMSprop has momentums only
  with a momentum.

  Args:
    optimizer: the optimizer.
    name: without the underscore that the attribute may begin with.
  """
  import tf_keras as keras

  variables: list[Any] = []
  for attribute in (name, f"_{name}"):
    for api in _OPTIMIZER_VARIABLES.get(attribute, ()):
      if isinstance(optimizer, getattr(keras.optimizers, api.path.split(".")[1])):
        api.get()
        variables += getattr(optimizer, attribute, ())
        break
  return variables


# Tables of tf.lookup.


def saved_as_tensors(cls: _Class) -> _Class:
  """A class decorator for a DenseHashTable that defines how a SavedModel holds it.

  `saved_tensors()` returns {name: tensor}; `restore(tensors)` gets them back at load.
  """
  _TABLE_SAVE.get()
  _TABLE_RESTORE.get()
  changed: Any = cls
  changed._serialize_to_tensors = lambda self: self.saved_tensors()
  changed._restore_from_tensors = lambda self, tensors: self.restore(tensors)
  return cls


def set_initial_buckets(table: Any, buckets: int) -> None:
  """With how many buckets the graph of a SavedModel makes a DenseHashTable."""
  _TABLE_BUCKETS.get()
  table._initial_num_buckets = buckets


# Errors of the coordinator.


def original_error(error: BaseException) -> BaseException:
  """The error that the coordinator wrapped in `error`, or `error` itself."""
  while isinstance(inner := getattr(error, "original_exception", None), BaseException):
    error = inner
  return error


# TensorFlow's C API, which its wheel has in a library of no documented name.

_C_LIBRARY = "libtensorflow_cc.so.2"
TSTRING_BYTES = 24  # Size of a TF_TString.


def c_api(signatures: Sequence[tuple[str, Any, list[Any]]]) -> types.SimpleNamespace:
  """Functions of TensorFlow's C API, in the library that this process's TensorFlow is made of.

  Args:
    signatures: (name, ctypes type of the result, those of the arguments) for each function.

  Raises:
    PrivateApiError: the library or a function is gone.
  """
  import tensorflow as tf

  functions = types.SimpleNamespace()
  name = ""
  try:
    library = ctypes.CDLL(str(pathlib.Path(tf.__file__).with_name(_C_LIBRARY)))
    for name, result, arguments in signatures:
      function = getattr(library, name)
      function.restype, function.argtypes = result, arguments
      setattr(functions, name, function)
  except (OSError, AttributeError) as error:
    raise Private("tensorflow", f"{_C_LIBRARY}:{name}".rstrip(":")).gone() from error
  return functions
