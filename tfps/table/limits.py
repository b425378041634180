"""The limits of a table: how many feasigns, and how many bytes, it may hold."""

from __future__ import annotations

# With fewer, chance alone makes one shard much fuller than another.
_LEAST_ROWS_PER_SHARD = 32
_LEAST_BYTES_PER_SHARD = 4096


def check(what: str, num_shards: int, max_rows: int, max_bytes: int) -> None:
  """Checks the limits of a table.

  Raises:
    ValueError: a limit is not a whole number, or leaves a shard too little room; the sentence
      begins with `what`.
  """
  for limit, value, least in (
    ("max_rows", max_rows, _LEAST_ROWS_PER_SHARD),
    ("max_bytes", max_bytes, _LEAST_BYTES_PER_SHARD),
  ):
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
      raise ValueError(f"{what}: {limit} must be a whole number, 0 for no limit, not {value!r}.")
    if 0 < value < least * num_shards:
      raise ValueError(
        f"{what}: {limit} is {value:,}, too little for {num_shards:,} virtual shards of "
        f"{least:,} each; give it fewer num_shards, or more room."
      )
