"""The stand-in's versions as a models.config says, by the rules of the real server."""

from __future__ import annotations

import os
import pathlib
import sys

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from examples.online.server import Versions


class ConfiguredVersions(Versions):
  """The versions and labels that a file names, which is read again at each `refresh`.

  As in the real server a label is given to its version before any version is loaded; so one that
  moves must find its version there, and otherwise nothing of the config takes effect.

  Args:
    path: the file; of its models the first counts, and its version policy is "specific".
    allow_new_labels: whether a label that is new may name a version that is not there
      (--allow_version_labels_for_unavailable_models).
  """

  def __init__(self, path: str | os.PathLike, allow_new_labels: bool = False) -> None:
    self._path = pathlib.Path(path)
    self._allow_new_labels = allow_new_labels
    entry = self._read()
    super().__init__(entry.base_path)
    self.name = entry.name

  def refresh(self) -> list[int]:
    """Follows the file, where it may; loads what is wanted and drops what is not."""
    entry = self._read()
    labels = dict(entry.version_labels)
    loaded = self.loaded()
    for label, version in labels.items():
      is_new = self.labels.get(label, version) == version
      if version not in loaded and not (self._allow_new_labels and is_new):
        print(
          f"Request to assign label to version {version} of model {entry.name}, which is not "
          "currently available for inference",
          file=sys.stderr,
          flush=True,
        )
        return loaded
    self.labels = labels
    self._wanted = tuple(entry.model_version_policy.specific.versions)
    return super().refresh()

  def _read(self) -> ModelServerConfig:
    config = text_format.Parse(self._path.read_text(), ModelServerConfig())
    return config.model_config_list.config[0]
