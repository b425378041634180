"""Which tasks are alive: bare TCP connects to their ports, which close again at once."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from tfps.cluster import tf_config
from tfps.errors import ConfigError, LostError

PROBE_SECONDS = 2.0


def accepts_connections(address: str, timeout: float = 2.0) -> bool:
  """Whether a TCP connect to `address` ("host:port") succeeds within `timeout` seconds."""
  try:
    with socket.create_connection(tf_config.split_address(address), timeout):
      return True
  except OSError:
    return False


def wait_for_servers(
  cluster: tf_config.Cluster,
  timeout: float,
  report: Callable[[str], None],
  report_seconds: float = 10.0,
) -> None:
  """Waits until every worker and parameter server accepts connections.

  Args:
    cluster: whose workers and parameter servers are waited for.
    timeout: how many seconds to wait at most.
    report: is called with one line that names the tasks that are still missing.
    report_seconds: how many seconds lie between two reports.

  Raises:
    LostError: one sentence that names the tasks that are missing.
  """
  missing = list(cluster.servers())
  start = next_report = time.monotonic()
  while True:
    missing = [task for task in missing if not accepts_connections(task[2])]
    if not missing:
      return
    names = ", ".join(f"{job} {index} ({address})" for job, index, address in missing)
    now = time.monotonic()
    if now - start > timeout:
      raise LostError(
        f"After {timeout:.0f} s these tasks accept no connection: {names}; start them, or "
        "correct their addresses in TF_CONFIG."
      )
    if now - next_report >= report_seconds:
      report(f"Waiting for {names}.")
      next_report = now
    time.sleep(0.2)


class ChiefWatch:
  """Tells a worker or parameter server when its chief is lost.

  The chief opens its port when its strategy begins, and the port closes with its process.

  Args:
    address: the chief's "host:port".
    lost_seconds: how long its port must refuse connections until it counts as lost; by default
      the environment variable TFPS_CHIEF_LOST_SECONDS, or 30.
    appear_seconds: how long to wait for it to appear in the first place.

  Attributes:
    seen: whether it has accepted a connection at all.
    lost_seconds: as given.
  """

  def __init__(
    self, address: str, lost_seconds: float | None = None, appear_seconds: float = 600.0
  ):
    if lost_seconds is None:
      lost_seconds = chief_lost_seconds()
    self._address = address
    self.lost_seconds = lost_seconds
    self._appear_seconds = appear_seconds
    self.seen = False
    self._last_probe = time.monotonic()
    self._refused_since: float | None = self._last_probe

  @property
  def silent_seconds(self) -> float:
    """For how long all probes have been refused; 0.0 where the last one was accepted."""
    return 0.0 if self._refused_since is None else time.monotonic() - self._refused_since

  def poll(self) -> str | None:
    """Probes the chief if it is time to; returns a sentence once it is lost, else None."""
    now = time.monotonic()
    if now - self._last_probe < PROBE_SECONDS:
      return None
    self._last_probe = now
    if accepts_connections(self._address):
      self.seen = True
      self._refused_since = None
      return None
    if self._refused_since is None:
      self._refused_since = time.monotonic()
    silent = self.silent_seconds
    if self.seen and silent >= self.lost_seconds:
      return f"The chief at {self._address} is lost: no connection for {silent:.0f} s."
    if not self.seen and silent >= self._appear_seconds:
      return f"The chief at {self._address} did not appear within {silent:.0f} s."
    return None


class ServerWatch:
  """Tells the chief when a parameter server is lost.

  Args:
    index: the server's number.
    address: its "host:port".
    lost_seconds: for how long it must be out of reach; by default as `ChiefWatch`. A port that is
      there but refuses connections, twice, has no process any more.
  """

  def __init__(self, index: int, address: str, lost_seconds: float | None = None):
    self._name = f"parameter server {index} at {address}"
    self._address = address
    self._lost_seconds = chief_lost_seconds() if lost_seconds is None else lost_seconds
    self._refused = 0
    self._silent_since: float | None = None

  def poll(self) -> str | None:
    """Probes the server; returns a sentence once it is lost, else None."""
    try:
      with socket.create_connection(tf_config.split_address(self._address), PROBE_SECONDS):
        self._refused, self._silent_since = 0, None
        return None
    except ConnectionRefusedError:
      self._refused += 1
    except OSError:
      pass
    now = time.monotonic()
    if self._silent_since is None:
      self._silent_since = now
    if self._refused >= 2 or now - self._silent_since >= self._lost_seconds:
      return f"{self._name} is lost; its log says why."
    return None


def chief_lost_seconds() -> float:
  """For how long a task must be out of reach to count as lost."""
  return _seconds_from_environment("TFPS_CHIEF_LOST_SECONDS", 30.0)


def _seconds_from_environment(name: str, default: float) -> float:
  text = os.environ.get(name, "")
  try:
    seconds = float(text) if text else default
  except ValueError:
    seconds = -1.0
  if not seconds > 0:
    raise ConfigError(f"{name} is {text!r}; set it to a number of seconds above 0.")
  return seconds
