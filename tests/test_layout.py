"""The layers of tfps/: rooms import from rooms below, and no modules import each other in a circle.

A room is a package of tfps/ or a module beside the packages.
"""

import ast
import graphlib
import pathlib
import runpy

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
GRAPH = runpy.run_path(str(ROOT / "docs" / "package_graph.py"))

# From the bottom to the top. Rooms of one layer do not import each other.
LAYERS = [
  ["errors", "versions"],
  ["native"],
  ["graph"],
  ["storage", "cluster", "table"],
  ["data", "layers", "learning"],
  ["training"],
  ["checkpoint"],
  ["export"],
  ["evaluation", "migration", "callbacks", "delivery", "join", "replay"],
  ["job"],
  ["cli"],
  # What users import or run, as they do tfps/__init__.py, which loads public names on first use.
  ["eviction", "losses", "__main__"],
]


def wrong_arrows(arrows, layers=LAYERS):
  """Those of the (importing room, imported room) that do not point down."""
  height = {room: i for i, layer in enumerate(layers) for room in layer}
  return sorted((a, b) for a, b in arrows if height[a] <= height[b])


def test_rooms_import_from_layers_below():
  """At any place, within functions too; imports for type checkers alone do not count."""
  rooms, arrows = GRAPH["read"](ROOT)
  in_layers = [room for layer in LAYERS for room in layer if not room.startswith("_")]
  assert sorted(in_layers) == sorted(rooms), "every room has its place in LAYERS"
  assert wrong_arrows(arrows) == []


def test_nothing_within_imports_the_lazy_package():
  """A module imports what it needs from where it is: `import tfps` would load names by chance."""
  assert [
    str(path)
    for path in (ROOT / "tfps").rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Import) and any(alias.name == "tfps" for alias in node.names)
  ] == []


def test_no_modules_import_each_other_in_a_circle():
  sources = {_module(path): path.read_text() for path in (ROOT / "tfps").rglob("*.py")}
  find_circle(sources)


def find_circle(sources):
  """Raises CycleError, which names the circle, if importing the modules goes in one."""
  graph = {module: set(_imports(ast.parse(source), sources)) for module, source in sources.items()}
  graphlib.TopologicalSorter(graph).prepare()


def _module(path):
  return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(tree, modules):
  """The modules that a syntax tree imports as soon as it is run."""
  if isinstance(tree, (ast.FunctionDef, ast.Lambda)):
    return
  if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
    return
  if isinstance(tree, ast.Import):
    yield from (alias.name for alias in tree.names if alias.name in modules)
  elif isinstance(tree, ast.ImportFrom):
    for alias in tree.names:
      inner = f"{tree.module}.{alias.name}"
      if inner in modules or tree.module in modules:
        yield inner if inner in modules else tree.module
  for child in ast.iter_child_nodes(tree):
    yield from _imports(child, modules)


def test_an_arrow_upward_or_sideways_is_seen(tmp_path):
  for room, source in {
    "storage/files.py": "from tfps import native\n",
    "table/table.py": "def f():\n  from tfps.storage.files import read\n",
    "native.py": "import tfps.cli.main\n",
    "errors.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import tfps.cli\n",
    "cli/main.py": "from tfps import errors\n",
  }.items():
    path = tmp_path / "tfps" / room
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
  _, arrows = GRAPH["read"](tmp_path)
  assert wrong_arrows(arrows) == [("native", "cli"), ("table", "storage")]


def test_a_circle_of_modules_is_seen():
  later = {"tfps.a": "from tfps import b", "tfps.b": "def f():\n  from tfps.a import x"}
  find_circle(later)
  with pytest.raises(graphlib.CycleError, match=r"tfps\.a"):
    find_circle(later | {"tfps.b": "try:\n  from tfps.a import x\nexcept ImportError:\n  pass"})
