"""The limits of a table: how many feasigns, and how many bytes, it may hold."""

# With fewer, chance alone makes one shard much fuller than another.
_LEAST_ROWS_PER_SHARD = 32
_LEAST_BYTES_PER_SHARD = 4096


def check(what, num_shards, max_rows, max_bytes):
  """Raises ValueError, in a sentence about `what`, unless the limits are whole numbers that leave each shard room."""
  for limit, value, least in (
    ("max_rows", max_rows, _LEAST_ROWS_PER_SHARD),
    ("max_bytes", max_bytes, _LEAST_BYTES_PER_SHARD),
  ):
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
      raise ValueError(f"{what}: {limit} must be a whole number, 0 for no limit, not {value!r}.")
    if 0 < value < least * num_shards:
      raise ValueError(
        f"{what}: {limit} is {value:,}, too little for {num_shards:,} virtual shards of {least:,} each; "
        "give it fewer num_shards, or more room."
      )
