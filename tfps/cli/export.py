"""Exports a base for TensorFlow Serving from a checkpoint, without training.

CHECKPOINT is a checkpoint's folder, or a folder of checkpoints, of which the newest is taken. What
is written to FOLDER/base/<version>/ answers as the base that the trainer would have exported at
that moment. It begins a lineage of its own: no delta of a trainer goes on top of it. Refused while
another process exports to FOLDER.

Fields of the config are overridden like --config.export.examples=1000.
"""

from __future__ import annotations

import argparse

from tfps.cli import config as config_lib
from tfps.cli import output

NAME = "export"
HELP = "export a base for TensorFlow Serving from a checkpoint"
OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.usage = (
    "tfps export CHECKPOINT --config=FILE [--config.FIELD=VALUE ...] [--output FOLDER] [--verbose]"
  )
  parser.add_argument("path", metavar="CHECKPOINT", help="a checkpoint, or a folder of checkpoints")
  parser.add_argument(
    "--config", required=True, metavar="FILE", help="the config that it was trained with"
  )
  parser.add_argument(
    "--output", metavar="FOLDER", help="the folder of exports; config.export.folder by default"
  )


def run(args: argparse.Namespace) -> None:
  module, config = config_lib.load(args.config, args.overrides)
  source = config_lib.function(module, "source")
  model_class = config_lib.model_class(module, config)
  from tfps.export.exporter import in_words
  from tfps.job import export as from_checkpoint

  path = from_checkpoint.export(
    args.path, config, source(config), model_class, args.output, output.progress
  )
  print(f"Exported {in_words(path)}.")
