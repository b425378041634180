"""What hooks of a day's end see; `tfps.table.eviction` has it."""

from tfps.table.eviction import EvictedRows

__all__ = ["EvictedRows"]
