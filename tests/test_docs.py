"""docs/, README.md, CONTRIBUTING.md: code compiles, names are there, docstring examples run."""

import pathlib
import re
import runpy

import pytest

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
