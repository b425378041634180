"""Config files: ml_collections configs, overridable on the command line.

A config file is Python. `get_config()` returns an `ml_collections.ConfigDict` with data only; other
functions of the file, like `source(config)`, make things of it. It may import modules that are in
its folder.
"""

from __future__ import annotations

import collections
import contextlib
import difflib
import functools
import importlib
import importlib.util
import pathlib
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import config_dict, config_flags
from ml_collections.config_flags import config_path

from tfps.errors import ConfigError

_OVERRIDE = re.compile(r"--?(no)?config\.([^=]+)(?:=(.*))?", re.DOTALL)
_EXPECTED = {
  bool: "true or false",
  int: "a whole number",
  float: "a number",
  tuple: 'a tuple like "(1, 2)"',
  str: "a text",
}


def load(
  path: str, overrides: Sequence[str] = ()
) -> tuple[types.ModuleType, config_dict.ConfigDict]:
  """Loads a config file and overrides fields of its config.

  Args:
    path: the file, with a function get_config().
    overrides: "--config.a.b=value" each, or "--config.a.b" followed by "value".

  Returns:
    (the file's module, the locked ConfigDict).

  Raises:
    ConfigError: one sentence about the file, or about the field that does not exist or cannot have
      the value.
  """
  module = load_module(path)
  get_config = function(module, "get_config")
  try:
    config = get_config()
  except ConfigError:
    raise
  except Exception as error:
    raise ConfigError(_where(error, path)) from error
  if not isinstance(config, config_dict.ConfigDict):
    raise ConfigError(
      f"{path}: get_config() must return an ml_collections.ConfigDict, not {type(config).__name__}."
    )
  _settle(config)
  _override(config, list(overrides))
  return module, config


def load_module(path: str | pathlib.Path) -> types.ModuleType:
  """Loads a Python file as a module, once; raises ConfigError where it cannot be."""
  path = pathlib.Path(path)
  full = path.resolve()
  name = "_".join(("tfps_file", *full.with_suffix("").parts[1:]))
  if name in sys.modules:
    return sys.modules[name]
  if not full.is_file():
    raise ConfigError(f"There is no file {path}; give the path of a Python file.")
  spec = importlib.util.spec_from_file_location(name, full)
  if spec is None or spec.loader is None:
    raise ConfigError(f"{path} is not a Python file; its name must end in .py.")
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # Dataclasses and pickle look a class's module up here.
  try:
    with importing_beside(full):
      spec.loader.exec_module(module)
  except Exception as error:
    del sys.modules[name]
    if isinstance(error, ConfigError):
      raise
    raise ConfigError(_where(error, path)) from error
  return module


_folders: dict[str, pathlib.Path] = {}  # Of the modules that were imported from beside a file.


@contextlib.contextmanager
def importing_beside(path: str | pathlib.Path) -> Iterator[None]:
  """While the context lasts, imports look first into the file's folder, as those of a program do.

  Another file's folder may have a module of the same name: each file gets its own.
  """
  folder = pathlib.Path(path).resolve().parent
  for name in [name for name, other in _folders.items() if other != folder]:
    if (folder / f"{name}.py").exists() or (folder / name).is_dir():
      del _folders[name]
      for loaded in [one for one in sys.modules if f"{one}.".startswith(f"{name}.")]:
        del sys.modules[loaded]
  before = set(sys.modules)
  importlib.invalidate_caches()  # What was written since the folder was last looked at counts.
  sys.path.insert(0, str(folder))
  try:
    yield
  finally:
    with contextlib.suppress(ValueError):
      sys.path.remove(str(folder))
    for name in set(sys.modules) - before:
      file = getattr(sys.modules[name], "__file__", None)
      if "." not in name and file and pathlib.Path(file).parent in (folder, folder / name):
        _folders[name] = folder


def load_by_path(path: str, base: str | pathlib.Path) -> types.ModuleType:
  """Loads the Python file `path`, which is absolute or relative to the folder `base`."""
  return load_module(pathlib.Path(base, path))


def load_attribute(path: str, name: str, base: str | pathlib.Path) -> Any:
  """Returns what the Python file `path` (as `load_by_path` takes it) calls `name`."""
  module = load_by_path(path, base)
  if not hasattr(module, name):
    names = [other for other in vars(module) if not other.startswith("_")]
    raise ConfigError(f"{path} has no {name!r}{_nearest(name, names)}.")
  return getattr(module, name)


def root(module: types.ModuleType) -> pathlib.Path:
  """The folder that a config file's paths are relative to: the parent of the folder it is in."""
  return pathlib.Path(str(module.__file__)).parent.parent


def model_class(module: types.ModuleType, config: config_dict.ConfigDict) -> Callable[..., Any]:
  """The class or function that config.model names; in the config's own file where it names none."""
  path = config.model.file or str(module.__file__)
  return load_attribute(path, config.model.name, base=root(module))


def function(module: types.ModuleType, name: str) -> Callable[..., Any]:
  """Returns the function `name` of a config file; raises ConfigError if it has none."""
  found = optional_function(module, name)
  if found is None:
    raise ConfigError(f"{module.__file__} has no function {name}(); every config file needs one.")
  return found


def optional_function(module: types.ModuleType, name: str) -> Callable[..., Any] | None:
  """Returns the function `name` of a config file or None; it may import as the file itself does."""
  value = getattr(module, name, None)
  if not callable(value):
    return None

  @functools.wraps(value)
  def called(*args: Any, **kwargs: Any) -> Any:
    with importing_beside(str(module.__file__)):
      return value(*args, **kwargs)

  return called


def _settle(config: config_dict.ConfigDict) -> None:
  """Gives fields of any type the type of what they hold, so that overrides know what to expect."""
  for field in [name for name in config if config.get_type(name) is object]:
    value = config[field]
    if value is None:
      continue
    with config.unlocked():
      del config[field]
      config[field] = value


def _override(config: config_dict.ConfigDict, arguments: list[str]) -> None:
  given = collections.defaultdict(list)  # field: the values it was given, None for none
  for argument, following in zip(arguments, [*arguments[1:], None]):
    match = _OVERRIDE.fullmatch(argument)
    if match:
      given[match[2]].append(match[3] if match[3] is not None else following)
  for field in given:
    _check_field(config, field)
  defaults = {field: config_path.get_value(field, config) for field in given}
  values = flags.FlagValues()
  try:
    config_flags.DEFINE_config_dict(
      "config", config, flag_values=values, sys_argv=["tfps", *arguments]
    )
    rest = values(["tfps", *arguments])[1:]
  except (flags.Error, TypeError, ValueError, KeyError) as error:
    match = re.match(r"flag --config\.([^=]+)=", str(error))
    if match and match[1] in given:
      raise _mistyped(match[1], given[match[1]][-1], config_path.get_type(match[1], config)) from (
        error
      )
    raise ConfigError(" ".join(str(error).split()).rstrip(".") + ".") from error
  if rest:
    raise ConfigError(
      f"{' '.join(rest)} belongs to no field; write --config.field=value, with quotes around a "
      "value that has spaces."
    )
  for field, default in defaults.items():
    _check_elements(field, default, config_path.get_value(field, config), given[field][-1])


def _check_field(config: config_dict.ConfigDict, field: str) -> None:
  try:
    kind = config_path.get_type(field, config)
  except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
    raise ConfigError(
      f"The config has no field {field!r}{_nearest(field, list(_fields(config)))}."
    ) from error
  if isinstance(kind, type) and issubclass(kind, config_dict.ConfigDict):
    inner = ", ".join(config_path.get_value(field, config))
    remedy = (
      f"set one of them: {inner}" if inner else "it has none yet, so set it in the config file"
    )
    raise ConfigError(f"config.{field} is a group of fields; {remedy}.")
  if kind not in _EXPECTED:
    raise ConfigError(
      f"config.{field} is a {kind.__name__} and cannot be overridden; make it a tuple, a number, "
      "a text or true/false in the config file."
    )


def _check_elements(field: str, default: Any, value: Any, given: str | None) -> None:
  """A tuple's elements must be of the type that the config file's elements have."""
  if not isinstance(default, tuple) or not default:
    return
  kind = type(default[0])
  allowed = (int, float) if kind is float else kind
  if all(type(element) is kind for element in default) and not all(
    isinstance(element, allowed) for element in value
  ):
    raise ConfigError(
      f"config.{field} is a tuple, each element {_EXPECTED.get(kind, kind.__name__)}, and cannot "
      f"be {given!r}; write it like --config.{field}={str(default)!r}."
    )


def _mistyped(field: str, given: str | None, kind: type) -> ConfigError:
  return ConfigError(
    f"config.{field} is {_EXPECTED[kind]} ({kind.__name__}), and cannot be "
    f"{given if given is None else repr(given)}."
  )


def _fields(config: config_dict.ConfigDict, prefix: str = "") -> Iterator[str]:
  """Yields the dotted names of all fields."""
  for name in config:
    if issubclass(config.get_type(name), config_dict.ConfigDict):
      yield from _fields(config[name], f"{prefix}{name}.")
    else:
      yield prefix + name


def _nearest(name: str, names: Sequence[str]) -> str:
  """Returns "; the nearest is 'x'" of `names`, which may be empty."""
  if not names:
    return ""

  def likeness(other: str) -> float:
    whole = difflib.SequenceMatcher(None, name, other).ratio()
    last = difflib.SequenceMatcher(
      None, name.rsplit(".", maxsplit=1)[-1], other.rsplit(".", maxsplit=1)[-1]
    ).ratio()
    return whole + last

  return f"; the nearest is {max(names, key=likeness)!r}"


def _where(error: Exception, path: str | pathlib.Path) -> str:
  """Says where in the file (or below it) a Python error happened, in one sentence."""
  message = f"{type(error).__name__}: {error}"
  if isinstance(error, SyntaxError) and error.filename:
    return f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}."
  frames = traceback.extract_tb(error.__traceback__)
  here = str(pathlib.Path(path).resolve())
  in_file = [frame for frame in frames if frame.filename == here] or frames
  return f"{path}:{in_file[-1].lineno}: {' '.join(message.split())}."
