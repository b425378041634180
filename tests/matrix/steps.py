"""What the matrix does in each environment; a column of its table each."""

import re
import shutil
from collections.abc import Callable

from tests.matrix.environment import Environment, Failed

_QUICKSTART = (
  "--config=configs/quickstart.py",
  "--config.data.days=3",
  "--config.data.examples_per_day=20000",
)

# Every module, with a deprecated call of ours as an error.
_IMPORTS = """
import importlib, pkgutil, warnings
for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning, SyntaxWarning):
  warnings.filterwarnings("error", category=category, module=r"tfps\\b")
import tfps
for module in pkgutil.walk_packages(tfps.__path__, "tfps."):
  if module.name not in ("tfps.__main__", "tfps.join.spark"):  # Spark needs Java.
    importlib.import_module(module.name)
for name in tfps.__all__:
  getattr(tfps, name)
"""


def _build(environment: Environment) -> str:
  """The wheel is installed, and its library for this TensorFlow loads."""
  environment.run("load", "-c", "from tfps import native; native.ops.tfps_pull")
  return ""


def _imports(environment: Environment) -> str:
  _no_deprecation_of_ours(environment.run("imports", "-W", "always", "-c", _IMPORTS))
  return ""


def _quick_suite(environment: Environment) -> str:
  """The tests of tests/quick.txt."""
  files = (environment.checkout / "tests" / "quick.txt").read_text().split()
  out = environment.run(
    "quick", "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider", "-rs",
    *(f"tests/{file}" for file in files),
  )  # fmt: skip
  summary = re.findall(r"^(\d+ passed.*?)(?: in [\d.]+s.*)?$", out, re.MULTILINE)
  if not summary:
    raise Failed("no test ran")
  return ", " + re.sub(r", \d+ warnings?", "", summary[-1])


def _quickstart(environment: Environment) -> str:
  shutil.rmtree(environment.checkout / "runs", ignore_errors=True)
  out = environment.tfps(
    "quickstart", "train", *_QUICKSTART, "--config.checkpoint.folder=runs/quick"
  )
  _no_deprecation_of_ours(out)
  return f", AUC {_auc(out)}"


def _cluster(environment: Environment) -> str:
  launch = ("launch", "--workers=2", "--ps=2", "--", "train")
  out = environment.tfps("cluster", *launch, *_QUICKSTART)
  _no_deprecation_of_ours(out)
  return f", AUC {_auc(out)}"


def _export(environment: Environment) -> str:
  shutil.rmtree(environment.checkout / "export", ignore_errors=True)
  folders = ("runs/quick", "--config=configs/quickstart.py", "--output=export")
  exported = re.findall(r"Exported (\S+)\.$", environment.tfps("export", "export", *folders), re.M)
  if not exported:
    raise Failed("tfps export names no export")
  environment.tfps("verify", "verify-export", exported[-1])
  return ""


STEPS: dict[str, Callable[[Environment], str]] = {
  "wheel": _build,
  "import without warnings": _imports,
  "quick suite": _quick_suite,
  "quickstart": _quickstart,
  "cluster quickstart": _cluster,
  "export + verify": _export,
}


def _auc(out: str) -> str:
  """Returns the AUC of all days that quickstart reports."""
  found = re.findall(r"all days .* AUC (0\.\d+)", out)
  if not found:
    raise Failed("quickstart reports no AUC")
  return found[-1]


def _no_deprecation_of_ours(out: str) -> None:
  """Raises Failed if Python or TensorFlow's log says that code in tfps/ uses what is deprecated."""
  for line in out.splitlines():
    if re.search(r"/(tfps|models|configs)/\S+\.py.*(deprecat|FutureWarning)", line, re.IGNORECASE):
      raise Failed(f"a warning: {line.strip()}")
