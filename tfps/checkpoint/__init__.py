"""Checkpoints: a moment of a run in a folder, complete or not there at all."""

from tfps.checkpoint.errors import CheckpointError
from tfps.checkpoint.manager import CheckpointManager

__all__ = ["CheckpointError", "CheckpointManager"]
