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

__version__ = "0.2.0"

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
  "Model": "tfps.training.model",
  "Communication": "tfps.training.communication",
  "feasign": "tfps.table.feasigns",
}
_MODULES = (
  "data",
  "callbacks",
  "checkpoint",
  "cluster",
  "evaluation",
  "export",
  "losses",
  "migration",
)

__all__ = sorted([*_PUBLIC, *_MODULES])


def __getattr__(name):
  if name in _PUBLIC:
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value
  if name in _MODULES:
    return importlib.import_module(f"tfps.{name}")
  raise AttributeError(f"module 'tfps' has no attribute '{name}'; it has {', '.join(__all__)}")


def __dir__():
  return __all__
