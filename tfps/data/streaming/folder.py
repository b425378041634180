"""Files that keep arriving in a folder."""

import fnmatch
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from tfps.data import file_systems
from tfps.data.partitions import files_below


class Arrival(NamedTuple):
  """A file of samples that has arrived."""

  number: int  # 0, 1, 2, ... in the order in which they are taken
  name: str
  path: str
  skip: int = 0  # how many of its samples are trained already


class Folder:
  """Reads each file of a folder once: first what is there by name, then what comes.

  A file must be whole when it appears: write it beside under another name, such as one that begins
  with "." or "_", and rename it. It may be removed once no checkpoint from which a run may go on
  needs it.

  Args:
    folder: where the files arrive, on any of TensorFlow's file systems; every worker must reach it.
    pattern: their names, as the shell has it.
    partitions: whether files lie in folders such as dt=2026-01-01/hour=03, which appear, too.
    marker: the name of a file, such as "_SUCCESS", without which a folder and those in it wait.

  Examples:
    >>> arrivals = tfps.data.Folder("samples", pattern="samples-*.tfrecord")
    >>> samples = tfps.data.stream(arrivals, lambda records: parse(records))
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    pattern: str = "*.tfrecord",
    *,
    partitions: bool = False,
    marker: str | None = None,
  ) -> None:
    if marker is not None and not partitions:
      raise ValueError(f"marker is {marker!r}, which is for folders in it: set partitions=True.")
    self._folder = str(folder).rstrip("/")
    self._pattern = pattern
    self._partitions, self._marker = partitions, marker
    self.resume(None)

  def __str__(self) -> str:
    return f"{self._folder}/{self._pattern}"

  def resume(self, cursor: Mapping[str, Any] | None) -> None:
    """Begins at the beginning, or after the samples that `cursor` says are trained."""
    cursor = cursor or {"done": [], "file": None, "samples": 0}
    self._listed: set[str] | None = None
    self._new: list[str] = []  # Names that are listed and not taken, the first one last.
    self._taken = {name: number for number, name in enumerate(cursor["done"])}
    self._next_number = len(self._taken)
    self._partly = (cursor["file"], cursor["samples"]) if cursor["file"] else None

  def next(self) -> Arrival | None:
    """The next `Arrival`, None if there is none now.

    Raises:
      FileNotFoundError: a file of which a part is trained is not there any more.
    """
    if self._partly:
      (name, skip), self._partly = self._partly, None
      if not file_systems.exists(f"{self._folder}/{name}"):
        raise FileNotFoundError(
          f"{self._folder}/{name} is gone, of which {skip} samples are trained and the rest are "
          "not: put it back, or go on from another checkpoint."
        )
    else:
      if not self._new:
        self._list()
      if not self._new:
        return None
      name, skip = self._new.pop(), 0
    arrival = Arrival(self._next_number, name, f"{self._folder}/{name}", skip)
    self._taken[name] = arrival.number
    self._next_number += 1
    return arrival

  def first_path(self) -> str | None:
    """The path of any file that is there now."""
    names = self._names()
    return f"{self._folder}/{min(names)}" if names else None

  def cursor(self, arrival: Arrival, samples: int, is_whole: bool) -> dict[str, Any]:
    """Returns what `resume` needs once all before `arrival` and `samples` of it are trained.

    The value is a dict that JSON can hold.
    """
    below = arrival.number + is_whole
    # Removed files need not be remembered.
    done = [
      name
      for name, number in self._taken.items()
      if number < below and (self._listed is None or name in self._listed)
    ]
    partly = {"file": None, "samples": 0}
    return {"done": done, **(partly if is_whole else {"file": arrival.name, "samples": samples})}

  def trained(self, arrival: Arrival) -> None:
    """Called when all samples of a file, and of those before it, are trained."""

  def close(self) -> None:
    """Called when the stream ends."""

  def _list(self) -> None:
    listed = self._names()
    self._listed = listed
    self._taken = {name: number for name, number in self._taken.items() if name in listed}
    self._new = sorted(listed - self._taken.keys(), reverse=True)

  def _names(self) -> set[str]:
    if self._partitions:
      found = files_below(self._folder, pattern=self._pattern, marker=self._marker)
      return {file.path.removeprefix(f"{self._folder}/") for file in found}
    _, names = file_systems.list_folder(self._folder)  # It is made with its first file.
    return {name for name in names if self._is_sample_file(name)}

  def _is_sample_file(self, name: str) -> bool:
    return not name.startswith((".", "_")) and fnmatch.fnmatchcase(name, self._pattern)
