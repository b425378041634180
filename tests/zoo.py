"""The models of models/, each small, on batches that have all that any of them reads."""

import numpy as np

import tfps

SLOTS = ["user_id", "item_id", "tags", "history"]
ITEMS = 30

# Arguments of each model beside the table and the slots.
MODELS = {
  "DeepFM": {"hidden": [8]},
  "WideAndDeep": {"hidden": [8]},
  "DCNv2": {"hidden": [8]},
  "DIN": {"hidden": [8], "attention": [6, 4]},
  "BST": {"hidden": [8], "length": 4},
  "SASRec": {"length": 4, "blocks": 2, "heads": 2},
  "MMoE": {"experts": 3, "expert": [8], "hidden": [4]},
  "PLE": {"task_experts": 1, "shared_experts": 2, "expert": [8], "hidden": [4]},
  "ESMM": {"hidden": [8]},
  "DLRM": {"hidden": [8], "bottom": [6]},
  "XDeepFM": {"hidden": [8], "feature_maps": [5, 3]},
  "AutoInt": {"hidden": [8], "interacting": 2, "width": 4},
  "FinalMLP": {"hidden": [8, 6], "gate": [5], "gates": [["user_id"], []]},
}
SEQUENTIAL = ["DIN", "BST", "SASRec"]
TASKS = {"MMoE": ("click", "like"), "PLE": ("click", "like"), "ESMM": ("ctr", "ctcvr")}


def make_table(**settings):
  settings = dict(mf_dim=4, mf_init_range=0.3, optimizer=tfps.Adam(0.02)) | settings
  accessor = tfps.CtrAccessor(create_threshold=0, base_update_threshold=0)
  return tfps.FeasignTable("zoo", accessor=accessor, **settings)


def make_model(name, table=None, slots=SLOTS, **arguments):
  return getattr(tfps.models, name)(table or make_table(), slots, **(MODELS[name] | arguments))


def features(rng, size, width=6):
  """Feasigns; tags and history have padding 0, in the history in front and behind."""
  history = rng.integers(1, ITEMS + 1, (size, width))
  first, end = np.sort(rng.integers(0, width + 1, (2, size)), axis=0)
  places = np.arange(width)
  history[(places < first[:, None]) | (places >= end[:, None])] = 0
  return {
    "user_id": 1000 + rng.integers(0, 20, size),
    "item_id": rng.integers(1, ITEMS + 1, size),
    "tags": 2000 + rng.integers(0, 5, (size, 3)),
    "history": history,
    "dense": rng.normal(size=(size, 3)).astype(np.float32),
  }


def labels(name, rng, size):
  """Random clicks, by task where the model has several."""
  draw = lambda: rng.binomial(1, 0.4, (size, 1)).astype(np.float32)
  return {task: draw() for task in TASKS[name]} if name in TASKS else draw()


def losses(name):
  loss = "binary_crossentropy"
  return dict.fromkeys(TASKS[name], loss) if name in TASKS else loss


def flat(prediction):
  """[B, outputs] of a prediction, which may be a dict."""
  values = prediction.values() if isinstance(prediction, dict) else [prediction]
  return np.concatenate([np.asarray(value) for value in values], axis=1)
