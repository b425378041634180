"""Rolling a version out, or back, by a TensorFlow Serving's `models.config`.

The server gives labels to versions before it loads any, so one edit that loads a version and moves
a label to it never takes effect. It takes two: first both versions with the labels as they are, and
once the new one is AVAILABLE the label on it, without the versions that no label is on any more.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tfps.errors import DeliveryError

if TYPE_CHECKING:
  from tfps.delivery.replica import Replica


class Step(NamedTuple):
  """One state of the config, and what servers do with it.

  Attributes:
    does: what it is for, in words.
    text: the config.
    loaded: the versions that servers then have, and no other.
    labels: {label: its version}.
  """

  does: str
  text: str
  loaded: frozenset[int]
  labels: dict[str, int]


def read(path: str) -> ModelServerConfig:
  """The config in a file.

  Raises:
    DeliveryError: it is no such config.
  """
  try:
    with open(path) as file:
      return text_format.Parse(file.read(), ModelServerConfig())
  except (text_format.ParseError, UnicodeDecodeError) as error:
    raise DeliveryError(f"{path} is no models.config of TensorFlow Serving: {error}.") from None


def plan(config: ModelServerConfig, model: str, version: int, labels: Sequence[str]) -> list[Step]:
  """The steps after which a model's labels are on a version.

  Args:
    config: the config as it is now.
    model: the model's name in it.
    version: the version to serve.
    labels: the labels to move, or to make; all that the model has where it is empty. A model
      without labels serves just the version in the end.

  Raises:
    DeliveryError: the config does not name the model, or does not name versions.
  """
  names = [entry.name for entry in config.model_config_list.config]
  if model not in names:
    raise DeliveryError(
      f"the config has no model '{model}' (it has {', '.join(names) or 'none'}): name it with "
      "--model-name."
    )
  entry = config.model_config_list.config[names.index(model)]
  policy = entry.model_version_policy.WhichOneof("policy_choice")
  if policy != "specific":
    raise DeliveryError(
      f"model '{model}' has no versions in the config (its policy is {policy or 'latest'}), so its "
      "servers load the newest base by themselves: give it model_version_policy { specific { "
      "versions: ... } } with the version that they serve now."
    )
  now = dict(entry.version_labels)
  there = frozenset(entry.model_version_policy.specific.versions)
  then = {**now, **dict.fromkeys(labels or now, version)}
  left = frozenset(then.values()) or frozenset([version])
  steps = []
  if then and version not in there:
    both = there | {version}
    text = _text(config, model, both, now)
    steps.append(Step(f"load version {version} beside {_list(there)}", text, both, now))
  if (left, then) != (there, now):
    does = f"serve version {_list(left)}" if not then else f"move {_said(then, now)}"
    dropped = (there | {version}) - left
    if dropped and then:
      does += f", drop version {_list(dropped)}"
    steps.append(Step(does, _text(config, model, left, then), left, then))
  return steps


class Rollout:
  """Writes the config step by step, and waits for the servers after each.

  Args:
    path: the file that the servers read again when it changes
      (--model_config_file_poll_wait_seconds).
    replicas: the servers.
    timeout: seconds that all servers may take for a step.
    say: told what happens, a line each.
  """

  def __init__(
    self, path: str, replicas: Sequence[Replica], timeout: float, say: Callable[[str], None]
  ) -> None:
    self._path = path
    self._replicas = replicas
    self._timeout = timeout
    self._say = say

  def run(self, steps: Sequence[Step]) -> None:
    """Takes the steps.

    Raises:
      DeliveryError: a server did not follow in time. While a version was being loaded, the config
        is then as it was.
    """
    with open(self._path) as file:
      before = file.read()
    for i, step in enumerate(steps):
      self._say(f"{step.does[0].upper()}{step.does[1:]}.")
      _write(self._path, step.text)
      try:
        self._wait(step)
      except BaseException:
        if i < len(steps) - 1:
          _write(self._path, before)
          self._say("The config is as it was.")
        raise

  def _wait(self, step: Step) -> None:
    deadline = time.monotonic() + self._timeout
    late: dict[str, str] = {}
    pause = threading.Event()
    while True:
      late = {
        replica.address: reason
        for replica in self._replicas
        if (reason := _what_lacks(replica, step)) is not None
      }
      if not late:
        return
      if time.monotonic() > deadline:
        break
      pause.wait(0.2)
    address, reason = next(iter(late.items()))
    others = f" (and {len(late) - 1} more)" if len(late) > 1 else ""
    raise DeliveryError(
      f"{address}{others} did not follow within {self._timeout:g} s: {reason}. Does it read "
      f"{self._path} again (--model_config_file_poll_wait_seconds), is the version in the model's "
      "base_path, and has it memory for two?"
    )


def _what_lacks(replica: Replica, step: Step) -> str | None:
  """What a server does not do yet of a step; None if it does all."""
  versions = frozenset(replica.versions())
  if missing := step.loaded - versions:
    return f"version {_list(missing)} is not AVAILABLE"
  for label, version in step.labels.items():
    found = replica.version_of(label)
    if found != version:
      return f"label '{label}' is {'unknown' if found is None else f'on version {found}'}"
  if more := versions - step.loaded:
    return f"version {_list(more)} is still there"
  return None


def _text(
  config: ModelServerConfig, model: str, versions: frozenset[int], labels: dict[str, int]
) -> str:
  changed = ModelServerConfig()
  changed.CopyFrom(config)
  (entry,) = (one for one in changed.model_config_list.config if one.name == model)
  entry.model_version_policy.specific.versions[:] = sorted(versions)
  entry.version_labels.clear()
  entry.version_labels.update(labels)
  return text_format.MessageToString(changed)


def _write(path: str, text: str) -> None:
  """Puts the file in place in one step."""
  beside = f"{path}.new"
  with open(beside, "w") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(beside, path)


def _said(then: dict[str, int], now: dict[str, int]) -> str:
  moved = {label: version for label, version in then.items() if now.get(label) != version}
  if not moved:
    return "no label"
  version = next(iter(moved.values()))
  return f"{'label' if len(moved) == 1 else 'labels'} {', '.join(sorted(moved))} to {version}"


def _list(versions: frozenset[int]) -> str:
  return ", ".join(map(str, sorted(versions)))
