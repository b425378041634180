"""Bringing one replica up to date."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from tfps.delivery.replica import Status
from tfps.errors import NotServed, Refused

if TYPE_CHECKING:
  from tfps.delivery.replica import Replica
  from tfps.export.delta_folder import ExportFolder
  from tfps.export.delta_reader import Chunk, Delta


class Listener(Protocol):
  """Hears how a replica catches up."""

  def begun(self, delta: Delta, entries: int) -> None:
    """A delta begins, of which `entries` are still to be sent."""

  def sent(self, chunk: Chunk) -> None:
    """A chunk was applied."""

  def applied(self, version: int, delta: Delta) -> None:
    """All of a delta was applied."""


def catch_up(
  replica: Replica, folder: ExportFolder, chunk_bytes: int, listener: Listener
) -> dict[int, Status]:
  """Sends a replica the missing deltas of every base that it serves.

  Args:
    replica: the `replica.Replica`.
    folder: the `ExportFolder`.
    chunk_bytes: how many bytes of entries are in one call at most.
    listener: a `Listener`.

  Returns:
    {version: `Status`} of the versions that it served.

  Raises:
    DeliveryError: the replica refused a chunk, is busy or does not answer; a delta is missing; or
      what it serves is not of the folder.
    ExportError: a delta is damaged.
  """
  reached: dict[int, Status] = {}
  gone: set[int] = set()
  while pending := set(replica.versions()) - reached.keys() - gone:
    version = min(pending)
    try:
      reached[version] = _catch_up(replica, version, folder, chunk_bytes, listener)
    except NotServed:  # Another base has taken its place.
      gone.add(version)
  return reached


def _catch_up(
  replica: Replica, version: int, folder: ExportFolder, chunk_bytes: int, listener: Listener
) -> Status:
  status = replica.status(version)
  while delta := folder.next_delta(status.base, status.sequence):
    status = _send(replica, version, status, delta, chunk_bytes, listener)
    if (status.sequence, status.position) == (delta.sequence, 0):
      listener.applied(version, delta)
  folder.check_holds(replica.address, status)
  return status


def _send(
  replica: Replica, version: int, status: Status, delta: Delta, chunk_bytes: int, listener: Listener
) -> Status:
  """Sends a delta from the replica's status on; returns the status afterwards.

  It is not the delta's end if the replica restarted, or another process sends to it too.
  """
  listener.begun(delta, delta.entries - status.position)
  for chunk in delta.chunks(status.position, chunk_bytes):
    began = time.monotonic()
    try:
      reached = replica.apply(version, chunk)
    except Refused:
      now = replica.status(version)
      if now == status:
        raise
      return now
    listener.sent(chunk)
    # The server gets as much time for its requests as the chunk took.
    time.sleep(time.monotonic() - began)
    status = reached
    if (status.sequence, status.position) != _after(chunk):
      break
  return status


def _after(chunk: Chunk) -> tuple[int, int]:
  """Sequence and position of a replica that has just applied a chunk."""
  if chunk.last:
    return chunk.sequence, 0
  return chunk.sequence - 1, chunk.position + chunk.entries
