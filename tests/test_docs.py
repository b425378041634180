"""docs/, README.md, CONTRIBUTING.md: code compiles, names are there, docstring examples run."""

import doctest
import importlib
import importlib.util
import io
import pathlib
import re
import runpy

import pytest
import tf_keras as keras

import tfps
from tfps.graph import compat

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted(ROOT.glob("docs/**/*.md")) + [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PATHS = re.compile(
  r"`((?:tfps|ops|tests|models|configs|examples|benchmarks|deploy|docs)/[\w./-]*)`"
)


def _ids(page):
  return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_python_in_a_page_compiles(page):
  for block in FENCED.findall(page.read_text()):
    compile(block, _ids(page), "exec")


@pytest.mark.parametrize("page", ["inputs", "logs"])
def test_blocks_that_go_on_from_one_another(page, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  program = tmp_path / f"{page}_page.py"
  program.write_text("\n".join(FENCED.findall((ROOT / "docs" / f"{page}.md").read_text())))
  runpy.run_path(str(program))


THIRTY_LINES = FENCED.findall((ROOT / "docs" / "thirty_lines.md").read_text())


@pytest.mark.parametrize(
  "block", THIRTY_LINES, ids=lambda block: re.findall(r"class (\w+)", block)[-1]
)
def test_a_model_in_30_lines_learns(block, tmp_path):
  program = tmp_path / "thirty_lines.py"
  program.write_text(block)
  keras.utils.set_random_seed(1)
  names = runpy.run_path(str(program))
  history = names["model"].history.history
  found = [values[-1] for name, values in history.items() if "auc" in name]
  found += names.get("found", {}).values()
  assert found and min(found) > 0.8, (history, found)


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_files_that_a_page_names_are_there(page):
  text = page.read_text()
  named = {path for path in PATHS.findall(text) if "NAME" not in path}
  named |= {f"tests/{test}" for test in re.findall(r"`(test_\w+\.py)`", text)}
  assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_links_between_files_of_the_repository(page):
  """The site's build checks links and anchors within docs/.

  README.md and CONTRIBUTING.md are not in it.
  """
  links = re.findall(r"\]\(([^)#:]+\.\w+)[^)]*\)", page.read_text())
  assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_picture_of_the_packages_is_that_of_the_sources():
  graph = runpy.run_path(str(ROOT / "docs" / "package_graph.py"))
  drawn = graph["draw"](*graph["read"](ROOT))
  assert drawn == graph["OUTPUT"].read_text(), "run `python docs/package_graph.py`"


# Public names without an example: errors, and what needs another process or package.
WITHOUT = {
  "tfps.checkpoint.CheckpointError",
  "tfps.cluster.Cluster",
  "tfps.cluster.ConfigError",
  "tfps.cluster.Task",
  "tfps.cluster.end",
  "tfps.data.BadRecordError",
  "tfps.data.Topic",
  "tfps.export.ExportError",
  "tfps.migration.import_tfra",
}
REFERENCE = [
  name
  for page in sorted(ROOT.glob("docs/reference/*.md"))
  for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
]


def test_the_reference_has_every_public_name():
  modules = [name for name in tfps.__all__ if importlib.util.find_spec(f"tfps.{name}")]
  public = {f"tfps.{name}" for name in tfps.__all__ if name not in modules}
  for module in modules:
    public |= {f"tfps.{module}.{name}" for name in getattr(tfps, module).__all__}
  # tfps.strategy is the same.
  assert sorted(public - {"tfps.cluster.strategy"} - set(REFERENCE)) == []


@pytest.fixture(scope="module", name="names")
def _names():
  """What the examples use: the lines on the reference's first page."""
  (lines,) = FENCED.findall((ROOT / "docs" / "reference" / "index.md").read_text())
  names = {}
  exec(compile(lines, "docs/reference/index.md", "exec"), names)
  return names


@pytest.mark.parametrize("name", [name for name in REFERENCE if name not in WITHOUT])
def test_example_of(name, names, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  module, _, attribute = name.rpartition(".")
  documented = getattr(importlib.import_module(module), attribute)
  (test,) = [
    test
    for test in doctest.DocTestFinder(recurse=False).find(documented, name, False, names)
    if test.examples
  ] or pytest.fail(f"the docstring of {name} has no example")
  output = io.StringIO()
  doctest.DocTestRunner(verbose=False).run(test, out=output.write)
  assert not output.getvalue(), output.getvalue()


def test_the_page_on_keras_names_every_private_api():
  page = (ROOT / "docs" / "keras.md").read_text()
  unnamed = []
  for api in compat.PRIVATE:
    name = api.text.removeprefix("self.").partition(" =")[0] or api.path.rpartition(".")[2]
    if name not in page:
      unnamed.append(str(api))
  assert unnamed == []
