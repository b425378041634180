"""tfps: click and recommender models whose sparse features never end.

A feasign table lives on the parameter servers; Keras towers train under `model.fit`:

    import tf_keras as keras, tfps
    strategy = tfps.strategy()                   # from TF_CONFIG; none set: this process alone
    with strategy.scope():
      table = tfps.FeasignTable("ctr", mf_dim=8)
      model = DeepFM(table, slots=["user_id", "movie_id"], hidden=[256, 128])
      model.compile("adam", "binary_crossentropy", metrics=["AUC"])
    model.fit(tfps.data.source(...))

Names load on first use, so that `import tfps` itself costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # The same names for type checkers and editors, which do not run __getattr__.
  from tfps import (
    callbacks,
    checkpoint,
    cluster,
    data,
    evaluation,
    export,
    losses,
    migration,
    models,
  )
  from tfps.cluster.strategy import strategy
  from tfps.layers.cvm import cvm
  from tfps.layers.embedding import Embedding
  from tfps.table.accessor import CtrAccessor
  from tfps.table.feasign_table import FeasignTable
  from tfps.table.feasigns import feasign
  from tfps.table.optimizers import FTRL, SGD, Adagrad, Adam, StdAdagrad
  from tfps.table.policy import SlotPolicy
  from tfps.training.communication import Communication
  from tfps.training.model import Model

__version__ = "0.2.0"
__all__ = [
  "FTRL",
  "SGD",
  "Adagrad",
  "Adam",
  "Communication",
  "CtrAccessor",
  "Embedding",
  "FeasignTable",
  "Model",
  "SlotPolicy",
  "StdAdagrad",
  "callbacks",
  "checkpoint",
  "cluster",
  "cvm",
  "data",
  "evaluation",
  "export",
  "feasign",
  "losses",
  "migration",
  "models",
  "strategy",
]

_PUBLIC = {
  "strategy": "tfps.cluster.strategy",
  "FeasignTable": "tfps.table.feasign_table",
  "CtrAccessor": "tfps.table.accessor",
  "SlotPolicy": "tfps.table.policy",
  "SGD": "tfps.table.optimizers",
  "Adagrad": "tfps.table.optimizers",
  "StdAdagrad": "tfps.table.optimizers",
  "Adam": "tfps.table.optimizers",
  "FTRL": "tfps.table.optimizers",
  "Embedding": "tfps.layers.embedding",
  "cvm": "tfps.layers.cvm",
  "Model": "tfps.training.model",
  "Communication": "tfps.training.communication",
  "feasign": "tfps.table.feasigns",
}


if not TYPE_CHECKING:  # To type checkers, a name that is misspelt is an error.

  def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
      value = getattr(importlib.import_module(_PUBLIC[name]), name)
      globals()[name] = value
      return value
    if name in __all__:
      return importlib.import_module(f"tfps.{name}")
    raise AttributeError(f"module 'tfps' has no attribute '{name}'; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
  return __all__
