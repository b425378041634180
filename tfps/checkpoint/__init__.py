"""Checkpoints: a moment of a run in a folder, complete or not there at all."""

from tfps.checkpoint.manager import CheckpointManager
from tfps.errors import CheckpointError

__all__ = ["CheckpointError", "CheckpointManager"]
