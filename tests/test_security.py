"""The library unpickles and evaluates nothing."""

import ast
import pathlib

TFPS = pathlib.Path(__file__).resolve().parents[1] / "tfps"
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {"allow_pickle", "enable_unsafe_deserialization", "unsafe_load"}


def offences(source, name):
  """What of `source` makes objects or code of data."""
  found = []
  for node in ast.walk(ast.parse(source)):
    line = f"{name}:{getattr(node, 'lineno', 0)}"
    if isinstance(node, ast.Import):
      found += [line for alias in node.names if alias.name.split(".")[0] in MODULES]
    elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
      found.append(line)
    elif isinstance(node, ast.Call):
      if isinstance(node.func, ast.Name) and node.func.id in CALLS:
        found.append(line)
      if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        found.append(line)
      for keyword in node.keywords:
        if keyword.arg in METHODS | {"shell"}:
          is_off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
          found += [] if is_off else [line]
  return found


def test_nothing_is_unpickled_or_evaluated():
  files = sorted(TFPS.rglob("*.py"))
  assert len(files) > 100
  assert [line for path in files for line in offences(path.read_text(), path.name)] == []


def test_what_would_be_is_found():
  for bad in (
    "import pickle", "from pickle import loads", "eval(text)", "np.load(file, allow_pickle=True)",
    "subprocess.run(text, shell=True)", "import yaml", "exec(code)",
  ):  # fmt: skip
    assert offences(bad, "x"), bad
  assert not offences("np.load(file, allow_pickle=False)\nmodel.compile()", "x")
