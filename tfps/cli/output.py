"""Terminal output of the commands that look at checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import tqdm


def progress(shards: Iterable, total: int) -> Iterator:
  """Yields the shards, with a progress bar if stderr is a terminal."""
  return iter(tqdm.tqdm(shards, total=total, unit=" shards", leave=False, disable=None))


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
  """Lines in which the cells of each column stand below each other.

  Args:
    rows: the cells of each line, the same number in all.
    right: the columns, by number, that end below each other; the others begin so.
  """
  widths = [max(map(len, cells)) for cells in zip(*rows)]
  right = set(right)
  return [
    "  ".join(
      cell.rjust(width) if i in right else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(cells, widths))
    ).rstrip()
    for cells in rows
  ]


def share(part: int, whole: int) -> str:
  """`part` with the percentage that it is of `whole`."""
  return f"{part:,} ({part / whole:.1%})" if whole else f"{part:,}"


def size(num_bytes: float) -> str:
  return f"{num_bytes / 2**20:,.1f} MiB"
