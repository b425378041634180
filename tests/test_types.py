"""What type checkers see of tfps: every public name, although `import tfps` loads none of them."""

import ast
import importlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import tfps
from tests.patience import PATIENCE

ROOT = pathlib.Path(__file__).resolve().parents[1]

RIGHT = """
import tfps

table = tfps.FeasignTable(
  "ctr", mf_dim=8, accessor=tfps.CtrAccessor(create_threshold=10), optimizer=tfps.Adagrad(0.05)
)
model = tfps.models.DIN(table, ["item_id", "history"], attention=[16])
users = tfps.data.ClickStream(days=1)
records: int = users.day("day-0").records
"""
# {a line that is wrong: the name that a checker's message has}
WRONG = {
  'tfps.FeasignTable("ctr", mf_dim="eight", typo=1)': "typo",
  'tfps.FeasignTable("ctr", mf_dim="eight")': "mf_dim",
  "tfps.export.Exportr": "Exportr",
  'tfps.FeasignTable("ctr", typo=1)': "typo",
  'tfps.CtrAccessor(create_threshold="ten")': "create_threshold",
  "tfps.Adagrad(learning_rat=0.05)": "learning_rat",
  'tfps.data.ClickStream(days="seven")': "days",
  "tfps.FeasignTabel": "FeasignTabel",
  "tfps.models.DINN": "DINN",
}


def tool(name):
  """The path of one of the tools of `make lint`, which are in an environment of their own."""
  folder = ROOT / os.environ.get("LINT_VENV", ".venv-lint") / "bin"
  path = shutil.which(name, path=folder) or shutil.which(name)
  if path is None:
    pytest.skip(f"{name} is not installed; `make lint` installs it into .venv-lint")
  return path


def check(checker, folder, text):
  """The lines of a checker's report on a program: the numbers of its wrong lines, and all text."""
  program = folder / "program.py"
  program.write_text(text)
  if checker == "mypy":
    command = [tool("mypy"), "--config-file", ROOT / "pyproject.toml", "--no-pretty", program]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
  else:
    (folder / "pyrightconfig.json").write_text(
      f'{{"typeCheckingMode": "basic", "reportMissingImports": false, "extraPaths": ["{ROOT}"]}}'
    )
    command, environment = [tool("basedpyright"), "--project", folder, program], os.environ
  options = dict(cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
  done = subprocess.run(list(map(str, command)), **options)
  assert done.returncode in (0, 1) and not done.stderr, done.stderr
  wrong = {int(line) for line in re.findall(r"program\.py:(\d+)(?::\d+)?.* error:", done.stdout)}
  wrong |= {int(line) for line in re.findall(r"program\.py:(\d+):\d+ - error", done.stdout)}
  assert bool(wrong) == bool(done.returncode), done.stdout
  return wrong, done.stdout


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_type_checkers_know_public_names_and_their_arguments(tmp_path, checker):
  wrong, told = check(checker, tmp_path, RIGHT)
  assert not wrong, told
  lines = RIGHT.splitlines() + list(WRONG)
  wrong, told = check(checker, tmp_path, "\n".join(lines) + "\n")
  assert wrong == set(range(len(RIGHT.splitlines()) + 1, len(lines) + 1)), told
  assert all(f'"{name}"' in told for name in WRONG.values()), told


@pytest.mark.parametrize("name", ["tfps", "tfps.export"])
def test_names_that_load_on_first_use_are_those_that_type_checkers_see(name):
  package = importlib.import_module(name)
  (block,) = (
    node
    for node in ast.parse(pathlib.Path(package.__file__).read_text()).body
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
  )
  seen = {
    alias.asname or alias.name: imported.module
    for imported in block.body
    for alias in imported.names
  }
  modules = {module for module, home in seen.items() if home == name}
  homes = {public: home for public, home in seen.items() if home != name}
  assert homes == package._PUBLIC
  assert sorted(seen) == sorted(package.__all__)
  for public, home in homes.items():
    assert getattr(package, public) is getattr(importlib.import_module(home), public)
  for module in modules:
    assert getattr(package, module) is importlib.import_module(f"{name}.{module}")


def test_importing_tfps_loads_no_tensorflow():
  program = "import sys, tfps; print([name for name in sys.modules if 'tensorflow' in name])"
  done = subprocess.run(
    [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout == "[]\n"


def test_py_typed_says_that_tfps_has_types():
  assert pathlib.Path(tfps.__file__).with_name("py.typed").exists()
