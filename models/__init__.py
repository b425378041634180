"""Models as their papers describe them, one to a file: to use, to read and to copy.

Names load on first use. `docs/models.md` says what each model is for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # The same names for type checkers and editors, which do not run __getattr__.
  from tfps.models.autoint import AutoInt
  from tfps.models.bst import BST
  from tfps.models.dcn_v2 import DCNv2
  from tfps.models.deepfm import DeepFM
  from tfps.models.din import DIN
  from tfps.models.dlrm import DLRM
  from tfps.models.esmm import ESMM
  from tfps.models.finalmlp import FinalMLP
  from tfps.models.mmoe import MMoE
  from tfps.models.ple import PLE
  from tfps.models.sasrec import SASRec
  from tfps.models.two_tower import TwoTower
  from tfps.models.wide_and_deep import WideAndDeep
  from tfps.models.xdeepfm import XDeepFM

__all__ = [
  "BST",
  "DIN",
  "DLRM",
  "ESMM",
  "PLE",
  "AutoInt",
  "DCNv2",
  "DeepFM",
  "FinalMLP",
  "MMoE",
  "SASRec",
  "TwoTower",
  "WideAndDeep",
  "XDeepFM",
]

_FILES = {
  "DCNv2": "dcn_v2",
  "TwoTower": "two_tower",
  "WideAndDeep": "wide_and_deep",
}  # The others' are their names.


if not TYPE_CHECKING:  # To type checkers, a name that is misspelt is an error.

  def __getattr__(name: str) -> Any:
    if name not in __all__:
      raise AttributeError(f"module '{__name__}' has no attribute '{name}'; it has {__all__}")
    module = importlib.import_module(f"{__name__}.{_FILES.get(name, name.lower())}")
    globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
  return __all__
