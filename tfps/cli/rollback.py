"""Rolls running servers back to an earlier base: the steps of `tfps rollout`, for all labels.

The base must still be in the folder: `tfps pin` lets it stay. `tfps sync` then sends the deltas of
that base; stop it first to serve the plain base.
"""

from __future__ import annotations

import argparse

from tfps.cli import rollout

NAME = "rollback"
HELP = "let running servers serve an earlier base again"

add_arguments = rollout.add_arguments


def run(args: argparse.Namespace) -> int:
  return rollout.run(args)
