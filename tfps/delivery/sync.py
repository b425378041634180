"""Following an export folder: every replica gets each delta soon after it is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from tfps.delivery.catch_up import catch_up

if TYPE_CHECKING:
  from tfps.delivery.deltas import ExportFolder
  from tfps.delivery.replica import Replica, Status
  from tfps.export.delta_reader import Chunk, Delta


class Sync:
  """Keeps replicas up to date; prints one line on stdout for each delta.

  Args:
    replicas: the `replica.Replica`s.
    folder: the `deltas.ExportFolder`.
    chunk_bytes: how many bytes of entries are in one call at most.
    poll_seconds: how long to wait before looking for new deltas.
    tensorboard: folder for TensorBoard's files: the lag of each delta at each replica; or None.
  """

  def __init__(
    self,
    replicas: Sequence[Replica],
    folder: ExportFolder,
    chunk_bytes: int,
    poll_seconds: float,
    tensorboard: str | None = None,
  ) -> None:
    self._replicas = replicas
    self._folder = folder
    self._chunk_bytes = chunk_bytes
    self._poll_seconds = poll_seconds
    self._writer = tf.summary.create_file_writer(tensorboard) if tensorboard else None

  def run(self, stop: threading.Event) -> None:
    """Returns when the threading.Event `stop` is set."""
    threads = [threading.Thread(target=self._follow, args=[each, stop]) for each in self._replicas]
    for thread in threads:
      thread.start()
    stop.wait()
    for replica in self._replicas:
      replica.close()
    for thread in threads:
      thread.join()
    if self._writer:
      self._writer.close()

  def _follow(self, replica: Replica, stop: threading.Event) -> None:
    listener = _Lines(replica.address, self._writer)
    while not stop.is_set():
      try:
        reached = catch_up(replica, self._folder, self._chunk_bytes, listener)
        listener.serves(reached)
      except (ValueError, OSError, tf.errors.OpError) as error:
        if not stop.is_set():
          listener.failed(error)
      stop.wait(self._poll_seconds)


class _Lines:
  """Reports on one replica, in lines and to TensorBoard."""

  def __init__(self, address: str, writer: tf.summary.SummaryWriter | None) -> None:
    self._address = address
    self._writer = writer
    self._served: set[int] | None = None
    self._failure: str | None = None
    self._began = 0.0

  def begun(self, delta: Delta, entries: int) -> None:
    self._began = time.monotonic()

  def sent(self, chunk: Chunk) -> None:
    pass

  def applied(self, version: int, delta: Delta) -> None:
    now = time.time()
    lag = now - delta.captured_at
    self._failure = None
    # The age of the events that are served now, on average over the samples that the delta adds.
    age = now - delta.events["mean"] if delta.events else None
    self._say(
      f"delta {delta.sequence} of base {version}, {delta.entries:,} entries in "
      f"{time.monotonic() - self._began:.3f} s; lag {lag:.2f} s"
      + (f", {age:.1f} s after the events" if age else "")
    )
    if self._writer:
      with self._writer.as_default():
        tf.summary.scalar(f"lag_seconds/{self._address}", lag, step=delta.step)
        if age is not None:
          tf.summary.scalar(f"seconds_to_served/{self._address}", age, step=delta.step)
        tf.summary.scalar(f"delta_entries/{self._address}", delta.entries, step=delta.step)
      self._writer.flush()

  def serves(self, reached: Mapping[int, Status]) -> None:
    if self._failure:
      self._say("answers again")
    self._failure = None
    if set(reached) != self._served:
      self._served = set(reached)
      bases = ", ".join(f"{base} at delta {status.sequence}" for base, status in reached.items())
      self._say(f"serves base {bases}" if bases else "has no version ready to serve yet")

  def failed(self, error: BaseException) -> None:
    sentence = " ".join(str(error).split())
    if sentence != self._failure:  # Once, not at every look.
      self._failure = sentence
      self._say(sentence.removeprefix(f"{self._address} "))

  def _say(self, text: str) -> None:
    print(f"{self._address}: {text.rstrip('.')}.", flush=True)
