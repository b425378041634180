"""Following an export folder: every replica gets each delta soon after it is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from tfps.delivery.catch_up import catch_up

if TYPE_CHECKING:
  from tfps.delivery.replica import Replica, Status
  from tfps.export.delta_folder import ExportFolder
  from tfps.export.delta_reader import Chunk, Delta


class Sync:
  """Keeps replicas up to date; prints one line on stdout for each delta.

  Args:
    replicas: the `replica.Replica`s.
    folder: the `ExportFolder`.
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
    self._noted: dict[str, set[int]] = {}
    self._writer = tf.summary.create_file_writer(tensorboard) if tensorboard else None

  def run(self, stop: threading.Event) -> list[str]:
    """Returns when the threading.Event `stop` is set.

    Returns:
      A sentence for each replica that is not up to date then.
    """
    lines = [_Lines(replica, self._writer) for replica in self._replicas]
    threads = [
      threading.Thread(target=self._follow, args=[replica, of_replica, stop])
      for replica, of_replica in zip(self._replicas, lines)
    ]
    for thread in threads:
      thread.start()
    stop.wait()
    for replica in self._replicas:
      replica.close()
    for thread in threads:
      thread.join()
    if self._writer:
      self._writer.close()
    return [
      f"{of_replica.address} is not up to date: {of_replica.lacks.rstrip('.')}."
      for of_replica in lines
      if of_replica.lacks
    ]

  def _follow(self, replica: Replica, listener: _Lines, stop: threading.Event) -> None:
    while not stop.is_set():
      try:
        reached = catch_up(replica, self._folder, self._chunk_bytes, listener)
        self._note(listener, reached)
        listener.serves(reached, self._folder.what_lacks(reached.values()))
      except (ValueError, OSError, tf.errors.OpError) as error:
        if not stop.is_set():
          listener.failed(error)
      stop.wait(self._poll_seconds)

  def _note(self, listener: _Lines, reached: Mapping[int, Status]) -> None:
    """Lets exporters know which bases must stay; where it cannot, says so once."""
    if set(reached) == self._noted.get(listener.address):
      return
    try:
      self._folder.note_served(listener.address, reached)
    except (OSError, tf.errors.OpError) as error:
      if not self._noted.get(listener.address):
        listener.told(
          "its versions cannot be noted in the folder, so an exporter may remove one that it "
          f"serves: {error}"
        )
    self._noted[listener.address] = set(reached)


class _Lines:
  """Reports on one replica, in lines and to TensorBoard.

  Attributes:
    address: the replica's.
    lacks: what it lacks, as far as is known; None if nothing.
  """

  def __init__(self, replica: Replica, writer: tf.summary.SummaryWriter | None) -> None:
    self.address = replica.address
    self.lacks: str | None = "it was not reached"
    self._replica = replica
    self._writer = writer
    self._served: object = None
    self._failure: str | None = None
    self._began = 0.0
    self._busy = 0.0

  def begun(self, delta: Delta, entries: int) -> None:
    self._began = time.monotonic()
    self._busy = self._replica.busy_seconds
    self.lacks = f"delta {delta.sequence} of base {delta.manifest.base} was being sent"

  def sent(self, chunk: Chunk) -> None:
    pass

  def applied(self, version: int, delta: Delta) -> None:
    now = time.time()
    busy = self._replica.busy_seconds - self._busy
    lag = now - delta.captured_at
    self._failure = self.lacks = None
    # The age of the events that are served now, on average over the samples that the delta adds.
    age = now - delta.events["mean"] if delta.events else None
    self._say(
      f"delta {delta.sequence} of base {version}, {delta.entries:,} entries in "
      f"{time.monotonic() - self._began:.3f} s; lag {lag:.2f} s"
      + (f", {age:.1f} s after the events" if age else "")
      + (f"; the server was busy for {busy:.1f} s" if busy else "")
    )
    if self._writer:
      with self._writer.as_default():
        tf.summary.scalar(f"lag_seconds/{self.address}", lag, step=delta.step)
        if age is not None:
          tf.summary.scalar(f"seconds_to_served/{self.address}", age, step=delta.step)
        tf.summary.scalar(f"delta_entries/{self.address}", delta.entries, step=delta.step)
      self._writer.flush()

  def serves(self, reached: Mapping[int, Status], lacks: str | None) -> None:
    if self._failure:
      self._say("answers again")
    self._failure = None
    self.lacks = lacks if reached else "it has no version ready to serve yet"
    if (set(reached), lacks) != self._served:
      self._served = set(reached), lacks
      bases = ", ".join(f"{status.base} at delta {status.sequence}" for status in reached.values())
      also = f"; {lacks}" if lacks else ""
      self._say(f"serves base {bases}{also}" if bases else str(self.lacks))

  def told(self, sentence: str) -> None:
    """Says something about the replica."""
    self._say(" ".join(sentence.split()))

  def failed(self, error: BaseException) -> None:
    sentence = " ".join(str(error).split())
    self.lacks = sentence.removeprefix(f"{self.address} ")
    if sentence != self._failure:  # Once, not at every look.
      self._failure = sentence
      self._say(self.lacks)

  def _say(self, text: str) -> None:
    print(f"{self.address}: {text.rstrip('.')}.", flush=True)
