"""TF_CONFIG: which cluster there is, and which task of it this process is.

{"cluster": {"chief": ["host:port"], "worker": ["host:port", ...], "ps": ["host:port", ...]},
 "task": {"type": "worker", "index": 0}}
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping

from tfps.errors import ConfigError

_EXAMPLE = (
  '{"cluster": {"chief": ["host:2222"], "worker": ["host:2223"], "ps": ["host:2224"]}, '
  '"task": {"type": "chief", "index": 0}}'
)
_TASK_TYPES = ("chief", "worker", "ps", "evaluator")


@dataclasses.dataclass(frozen=True)
class Cluster:
  """The addresses ("host:port") of every task, by task type, in the order of their index."""

  chief: tuple[str, ...]
  worker: tuple[str, ...]
  ps: tuple[str, ...]
  evaluator: tuple[str, ...] = ()

  def servers(self) -> Iterator[tuple[str, int, str]]:
    """Yields (type, index, address) of every worker and parameter server."""
    for task_type in ("worker", "ps"):
      for index, address in enumerate(getattr(self, task_type)):
        yield task_type, index, address

  def spec(self) -> dict[str, list[str]]:
    """The jobs that TensorFlow connects, as tf.train.ClusterSpec takes them (no evaluator)."""
    return {"chief": list(self.chief), "worker": list(self.worker), "ps": list(self.ps)}


@dataclasses.dataclass(frozen=True)
class Task:
  """What this process is: its type (chief, worker, ps or evaluator), its index and its cluster."""

  type: str
  index: int
  cluster: Cluster

  @property
  def address(self) -> str | None:
    """This task's "host:port"; None for an evaluator that the cluster does not list."""
    addresses = getattr(self.cluster, self.type)
    return addresses[self.index] if self.index < len(addresses) else None

  def __str__(self) -> str:
    return f"{self.type} {self.index}"


def split_address(address: str) -> tuple[str, int]:
  """Splits "host:port" (or "[ipv6]:port") into the host and the port number."""
  host, _, port = address.rpartition(":")
  return host.strip("[]"), int(port)


def read(environ: Mapping[str, str] = os.environ) -> Task | None:
  """Reads this process's task from TF_CONFIG.

  Returns:
    The task, or None where TF_CONFIG is not set: this process is alone.

  Raises:
    ConfigError: one sentence that names the field of TF_CONFIG that is wrong and the remedy.

  Examples:
    >>> cluster = {"chief": ["10.0.0.1:2222"], "worker": ["10.0.0.2:2222"], "ps": ["10.0.0.3:2222"]}
    >>> config = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    >>> task = tfps.cluster.read_tf_config({"TF_CONFIG": json.dumps(config)})
    >>> task.type, task.cluster.ps
    ('worker', ('10.0.0.3:2222',))
  """
  text = environ.get("TF_CONFIG", "").strip()
  return parse(text) if text else None


def parse(text: str) -> Task:
  """Parses the text of a TF_CONFIG; raises ConfigError as `read` does."""
  try:
    config = json.loads(text)
  except json.JSONDecodeError as error:
    raise ConfigError(
      f"TF_CONFIG is not valid JSON ({error.msg} at line {error.lineno}, column {error.colno}); "
      f"write it like {_EXAMPLE}."
    ) from None
  except (RecursionError, ValueError):  # Thousands of brackets, or of digits.
    raise ConfigError(f"TF_CONFIG is no TF_CONFIG; write it like {_EXAMPLE}.") from None
  if not isinstance(config, dict):
    raise ConfigError(f"TF_CONFIG must be a JSON object, not {text!r}; write it like {_EXAMPLE}.")
  cluster = _parse_cluster(_object_field(config, "cluster"))
  return _parse_task(_object_field(config, "task"), cluster)


def _object_field(config: dict, name: str) -> dict:
  if name not in config:
    raise ConfigError(
      f"TF_CONFIG has no {name!r} field; write it like {_EXAMPLE}, or unset TF_CONFIG to train "
      "in this process alone."
    )
  if not isinstance(config[name], dict):
    raise ConfigError(f"TF_CONFIG: {name} must be an object; write it like {_EXAMPLE}.")
  return config[name]


def _parse_cluster(jobs: dict) -> Cluster:
  for job in jobs:
    if job not in _TASK_TYPES:
      raise ConfigError(
        f"TF_CONFIG: cluster.{job} is not a task type; use chief, worker, ps and evaluator."
      )
  for job in ("chief", "worker", "ps"):
    if not jobs.get(job):
      raise ConfigError(
        f'TF_CONFIG: cluster.{job} is missing; give it the "host:port" of '
        f"{'the chief' if job == 'chief' else f'every {job}, at least one'}."
      )
  owner: dict[str, str] = {}
  for job, addresses in jobs.items():
    if not isinstance(addresses, list):
      raise ConfigError(f'TF_CONFIG: cluster.{job} must be a list of "host:port" strings.')
    for index, address in enumerate(addresses):
      field = f"cluster.{job}[{index}]"
      _check_address(field, address)
      if address in owner:
        raise ConfigError(
          f"TF_CONFIG: {field} and {owner[address]} have the same address {address}; give every "
          "task its own port."
        )
      owner[address] = field
  if len(jobs["chief"]) != 1:
    raise ConfigError(
      f"TF_CONFIG: cluster.chief lists {len(jobs['chief'])} addresses; a cluster has one chief."
    )
  return Cluster(**{job: tuple(addresses) for job, addresses in jobs.items()})


def _check_address(field: str, address: object) -> None:
  match = re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):([0-9]{1,5})", str(address))
  if not isinstance(address, str) or not match or not 1 <= int(match[2]) <= 65535:
    raise ConfigError(
      f'TF_CONFIG: {field} is {json.dumps(address)}; write it as "host:port" with a port from 1 '
      "to 65535."
    )


def _parse_task(task: dict, cluster: Cluster) -> Task:
  task_type, index = task.get("type"), task.get("index")
  if task_type not in _TASK_TYPES:
    raise ConfigError(
      f"TF_CONFIG: task.type is {json.dumps(task_type)}; use chief, worker, ps or evaluator."
    )
  if isinstance(index, str) and index.isdecimal():
    index = int(index)
  # An evaluator is by convention not in the cluster; then it is the only one.
  count = len(getattr(cluster, task_type)) or 1
  if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
    numbers = "0" if count == 1 else f"0 to {count - 1}"
    raise ConfigError(
      f"TF_CONFIG: task.index is {json.dumps(task.get('index'))}, but cluster.{task_type} has "
      f"{count} address{'' if count == 1 else 'es'}; use {numbers}."
    )
  return Task(task_type, index, cluster)
