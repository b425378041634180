"""Keras callbacks that follow the training calendar of a source.

`fit` on a source calls, besides Keras's hooks, `on_day_begin(day)` before a day's first ticket and
`on_day_end(day, logs)` once all of its tickets are finished. A run that goes on from a checkpoint in
the middle of a day calls `on_day_resume(day, records)` instead of `on_day_begin`, with the number of
examples that are finished. `on_moment(position)` follows each day's end, and is called within a day
whenever as many tickets are finished as a callback's attribute `moment_every_tickets` says, and when a
stream has nothing to train yet: no ticket is running then. `on_idle()` is called whenever a stream was looked at and had nothing
new. `on_ticket_end(ticket)` follows each ticket,
and `on_records_skipped(counts)` one some of whose records were bad and are skipped: {reason: how many}.
"""

from tfps.callbacks.base_export import BaseExport
from tfps.callbacks.checkpoint import Checkpoint
from tfps.callbacks.delta_export import DeltaExport
from tfps.callbacks.end_of_day import EndOfDay
from tfps.callbacks.freshness import Freshness
from tfps.callbacks.progressive_test import ProgressiveTest
from tfps.callbacks.skipped_records import SkippedRecords
from tfps.callbacks.table_summaries import TableSummaries
from tfps.callbacks.throughput import Throughput

__all__ = [
  "BaseExport",
  "Checkpoint",
  "DeltaExport",
  "EndOfDay",
  "Freshness",
  "ProgressiveTest",
  "SkippedRecords",
  "TableSummaries",
  "Throughput",
]
