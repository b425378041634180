"""Writing the SavedModel itself."""

from __future__ import annotations

import tensorflow as tf

from tfps.export.served import model as served_model
from tfps.graph import compat
from tfps.graph.graph_defs import clear_devices
from tfps.storage import files

_METHODS = {
  served_model.CLASSIFY: "tensorflow/serving/classify",
  served_model.REGRESS: "tensorflow/serving/regress",
}


def save(served: served_model.ServedModel, folder: str) -> frozenset[str]:
  """Writes a model whose tables are still empty; returns the names of its signatures.

  TensorFlow 2 sets "predict" as the method of every signature. TensorFlow Serving's Classify and
  Regress calls look for other methods, which are set here. The trainer's devices are left out.
  """
  signatures = served.signatures()
  tf.saved_model.save(served, folder, signatures=signatures)
  path = files.join(folder, "saved_model.pb")
  with tf.io.gfile.GFile(path, "rb") as file:
    content = compat.saved_model_message().FromString(file.read())
  for meta_graph in content.meta_graphs:
    clear_devices(meta_graph.graph_def)
    for name, method in _METHODS.items():
      if name in meta_graph.signature_def:
        meta_graph.signature_def[name].method_name = method
  with tf.io.gfile.GFile(path, "wb") as file:
    file.write(content.SerializeToString(deterministic=True))
  # It is the fingerprint of the file as it was before.
  tf.io.gfile.remove(files.join(folder, "fingerprint.pb"))
  return frozenset(signatures)
