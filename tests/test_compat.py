"""Private APIs of TensorFlow and Keras: in one file, all there, one sentence for a missing one."""

import ast
import pathlib

import pytest
import tensorflow as tf
import tf_keras as keras

from tfps.errors import PrivateApiError
from tfps.graph import compat

_PACKAGE = pathlib.Path(__file__).parents[1] / "tfps"
_COMPAT = _PACKAGE / "graph" / "compat.py"
# What the documentation of Python and confluent-kafka names, underscore or not.
_PUBLIC = ("_replace", "_asdict", "_fields", "_exit", "_AUTO_OFFSET_RESET")
# Private names of TensorFlow and Keras: a class of tfps that defines one overrides theirs.
_NAMES = {
  word
  for api in compat.PRIVATE
  for word in (api.path.split(".")[-1], api.text.removeprefix("self.").removesuffix(" ="))
  if word.startswith("_") and not word.startswith("__")
} | {"add_function_def", "anonymous_name", "compiled_loss", "control_outputs", "original_exception"}


def private_uses(source, own=()):
  """[(line, name)] for each private API that a module uses.

  Args:
    source: the module's source code.
    own: private names that it may use besides those that it defines.
  """
  tree = ast.parse(source)
  own = _own_names(tree).union(own)
  uses = []
  for node in ast.walk(tree):
    modules, names = [], []
    match node:
      case ast.Import():
        modules = [alias.name for alias in node.names]
      case ast.ImportFrom(level=0):
        modules, names = [node.module], [alias.name for alias in node.names]
      case ast.Attribute(value=ast.Name(id="compat")):
        pass
      case ast.Attribute():
        names = [node.attr]
      case ast.Name() if node.id in _NAMES:
        names = [node.id]
      case ast.FunctionDef() if node.name in _NAMES:
        names = [node.name]
      case ast.Constant(value=str()) if node.value in _NAMES:
        names = [node.value]
      case ast.Call(
        func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, ast.Constant() as name, *_]
      ):
        names = [name.value]
    uses += [(node.lineno, module) for module in modules if _is_inner(module)]
    uses += [(node.lineno, name) for name in names if _is_private(name, own)]
  return uses


def _own_names(tree):
  """The names that a module gives to functions, variables and attributes of its own objects."""
  own = set()
  for node in ast.walk(tree):
    match node:
      case ast.FunctionDef():
        own.add(node.name)
      case ast.Name(ctx=ast.Store()):
        own.add(node.id)
      case ast.Attribute(value=ast.Name(), ctx=ast.Store()):
        own.add(node.attr)
      case ast.Call(
        func=ast.Name(id="getattr"), args=[ast.Name(id="self"), ast.Constant() as name, *_]
      ):
        own.add(name.value)
  return own


def _is_inner(module):
  """Whether a module is within TensorFlow or Keras, whose own names are all there is to import."""
  package, _, inner = module.partition(".")
  return package in ("tensorflow", "tf_keras", "keras") and bool(inner)


def _is_private(name, own):
  if name in _NAMES or name == "__internal__":
    return True
  is_dunder = name.startswith("__")
  return name.startswith("_") and not is_dunder and name not in own and name not in _PUBLIC


@pytest.mark.parametrize(
  "source",
  [
    "from tensorflow.python.eager import context",
    "import tensorflow.python.eager.context as context",
    "from tf_keras.src.engine.functional import Functional",
    "def f():\n  from tensorflow.core.protobuf import saved_model_pb2",
    "from tensorflow import __internal__",
    "tf.__internal__.EagerTensor",
    "model._validate_target_and_loss(y, loss)",
    "self._assert_compile_was_called()",
    "class A(CallbackList):\n  def __init__(self):\n    self._check_timing = False",
    "class A(CallbackList):\n  def _disallow_batch_hooks_in_ps_strategy(self): pass",
    "class A(tf.Module):\n  _TF_MODULE_IGNORED_PROPERTIES = ()",
    "getattr(layer, '_random_generator', None)",
    "getattr(optimizer, '_iterations')",
    "name.endswith('_scratch_graph')",
    "model.compiled_loss",
  ],
)
def test_a_private_api_is_seen(source):
  assert private_uses(source)


@pytest.mark.parametrize(
  "source",
  [
    "import tensorflow as tf\nimport tf_keras as keras\ntf.function(keras.Model)",
    "from tensorflow import errors",
    "class A:\n  def __init__(self, other):\n    self._x = other._x",
    "os._exit(1)\nrow._replace(a=1)\ntype(a).__name__",
  ],
)
def test_what_is_public_or_the_modules_own_is_not(source):
  assert not private_uses(source)


def test_private_apis_are_in_compat_alone():
  paths = sorted(_PACKAGE.rglob("*.py"))
  sources = {path: path.read_text() for path in paths if path != _COMPAT}
  own = set().union(*(_own_names(ast.parse(source)) for source in sources.values()))
  found = [
    f"{path.relative_to(_PACKAGE.parent)}:{line}: {what}"
    for path, source in sources.items()
    for line, what in private_uses(source, own)
  ]
  assert not found, "call a function of tfps/graph/compat.py instead:\n" + "\n".join(found)


def test_all_are_there():
  assert compat.missing() == []


@pytest.fixture
def without(monkeypatch):
  """Takes an attribute away, as a later version may."""

  def remove(owner, name):
    monkeypatch.delattr(owner, name)

  return remove


def test_one_that_is_gone_is_named_with_the_versions_and_the_remedy(without):
  without(keras.Model, "_validate_target_and_loss")
  with pytest.raises(PrivateApiError) as failure:
    compat.validate_target_and_loss(keras.Model(), None, None)
  assert str(failure.value) == (
    f"tf_keras {keras.__version__} has no tf_keras.Model._validate_target_and_loss, a private API "
    "that tfps uses and that was tried on tf_keras 2.16.0, 2.17.0, 2.18.0, 2.19.0, 2.20.1, 2.21.0: "
    "install one of these versions, or a newer tfps."
  )
  assert compat.missing() == [str(failure.value)]


def test_a_module_that_is_gone(monkeypatch):
  monkeypatch.setitem(
    __import__("sys").modules, "tensorflow.python.framework.op_def_registry", None
  )
  with pytest.raises(PrivateApiError, match=rf"tensorflow {tf.__version__} has no tensorflow.*get"):
    compat.is_stateful("Add")


def test_a_text_that_keras_no_longer_says(monkeypatch):
  def other_way(self):
    """Learns the shapes in another way."""

  layer = __import__("tf_keras.src.engine.base_layer", fromlist=["Layer"]).Layer
  monkeypatch.setattr(layer, "_infer_output_signature", other_way)
  with pytest.raises(PrivateApiError, match="_infer_output_signature with '_scratch_graph'"):
    compat.in_scratch_graph()


def test_a_c_function_that_is_gone():
  with pytest.raises(PrivateApiError, match=r"libtensorflow_cc\.so\.2:TF_NoSuchThing"):
    compat.c_api([("TF_NoSuchThing", None, [])])


def test_untracked_attributes_are_not_looked_into():
  @compat.untracked("hidden")
  class Plain(tf.Module):
    pass

  @compat.untracked("also")
  class Derived(Plain, keras.Model):
    pass

  plain = Plain()
  plain.hidden, plain.seen = tf.Variable(1.0), tf.Variable(2.0)
  assert plain.variables == (plain.seen,)
  ignored = Derived._TF_MODULE_IGNORED_PROPERTIES
  assert ignored == {"hidden", "also"} | keras.Model._TF_MODULE_IGNORED_PROPERTIES


def test_batch_hooks_run_under_a_parameter_server_strategy(monkeypatch):
  monkeypatch.setattr(keras.callbacks.CallbackList, "_disallow_batch_hooks_in_ps_strategy", _refuse)
  with pytest.raises(ValueError, match="refused"):
    keras.callbacks.CallbackList([])

  @compat.with_batch_hooks
  class Hooks(keras.callbacks.CallbackList):
    pass

  assert not Hooks([_Custom()])._check_timing


def _refuse(callbacks):
  raise ValueError("refused")


class _Custom(keras.callbacks.Callback):
  """Keras would time it."""
