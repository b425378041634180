"""Keras callbacks that follow the training calendar of a source; `Callback` lists their hooks."""

from tfps.callbacks.base_export import BaseExport
from tfps.callbacks.best_checkpoint import BestCheckpoint
from tfps.callbacks.checkpoint import Checkpoint
from tfps.callbacks.delta_export import DeltaExport
from tfps.callbacks.end_of_day import EndOfDay
from tfps.callbacks.follow_learning_rate import FollowLearningRate
from tfps.callbacks.freshness import Freshness
from tfps.callbacks.progressive_recall import ProgressiveRecall
from tfps.callbacks.progressive_test import ProgressiveTest
from tfps.callbacks.skipped_records import SkippedRecords
from tfps.callbacks.table_summaries import TableSummaries
from tfps.callbacks.throughput import Throughput
from tfps.training.callback import Callback

__all__ = [
  "BaseExport",
  "BestCheckpoint",
  "Callback",
  "Checkpoint",
  "DeltaExport",
  "EndOfDay",
  "FollowLearningRate",
  "Freshness",
  "ProgressiveRecall",
  "ProgressiveTest",
  "SkippedRecords",
  "TableSummaries",
  "Throughput",
]
