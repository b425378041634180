"""The training samples of the examples in a log, by id."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Sequence
from typing import Any

from tfps.replay import records
from tfps.replay.records import Unusable
from tfps.replay.request import features_of, id_of


class Samples:
  """Serialized tf.Examples by id, in a temporary file; of several with one id the first.

  `tfps join` with the policy "early" writes several samples of one show, all with the same
  features.

  Attributes:
    read: how many samples there are in all.
  """

  def __init__(self) -> None:
    self._folder = tempfile.TemporaryDirectory(prefix="tfps-replay-")
    self._rows = sqlite3.connect(os.path.join(self._folder.name, "samples"))
    self._rows.execute("PRAGMA synchronous = OFF")
    self._rows.execute("PRAGMA journal_mode = OFF")
    self._rows.execute("CREATE TABLE samples (id TEXT PRIMARY KEY, sample BLOB) WITHOUT ROWID")
    self.read = 0

  def fill(
    self,
    paths: Sequence[str],
    fields: Sequence[str],
    wanted: Collection[int],
    unusable: Unusable,
    told: Callable[[int], Any],
  ) -> None:
    """Takes from files the samples that are wanted.

    Args:
      paths: TFRecord files of tf.Examples.
      fields: the features that identify a sample together.
      wanted: hashes of the ids.
      unusable: counts the samples that cannot be read.
      told: called with the number of samples whenever some are read.
    """
    for path in paths:
      for record in records.read(path, unusable):
        self.read += 1
        told(1)
        try:
          id = id_of(features_of(record.content), fields)
        except Exception:  # protobuf's own classes differ between its implementations.
          unusable.add("the sample is no tf.Example", record.place)
          continue
        if id is not None and hash(id) in wanted:
          self._rows.execute("INSERT OR IGNORE INTO samples VALUES (?, ?)", (id, record.content))

  def of(self, ids: Sequence[str | None]) -> list[bytes | None]:
    """The sample of each id; None where there is none."""
    found: list[bytes | None] = []
    for id in ids:
      row = None
      if id is not None:
        row = self._rows.execute("SELECT sample FROM samples WHERE id = ?", (id,)).fetchone()
      found.append(row[0] if row else None)
    return found

  def close(self) -> None:
    """Removes the file."""
    self._rows.close()
    self._folder.cleanup()
