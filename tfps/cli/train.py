"""Trains the model that a config describes.

Without TF_CONFIG it trains in this process. With it, this process is the chief, a worker, a
parameter server (ps) or the evaluator of a cluster, by what TF_CONFIG says; the same command starts
every role.

Fields of the config are overridden like --config.batch_size=1024 or
--config.model.args.hidden="(64, 32)"; --print-config shows them all.
"""

from __future__ import annotations

import argparse
import json

from tfps.cli import config as config_lib
from tfps.cluster import tf_config

NAME = "train"
HELP = "train the model that a config describes"
OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.usage = "tfps train --config=FILE [--config.FIELD=VALUE ...] [--print-config] [--verbose]"
  parser.add_argument(
    "--config",
    required=True,
    metavar="FILE",
    help="Python file with get_config(), the run's settings, and source(config), its data",
  )
  parser.add_argument(
    "--print-config",
    action="store_true",
    help="print the config with its overrides as JSON, and train nothing",
  )


def check(args: argparse.Namespace) -> None:
  """Raises ConfigError if the config or an override is wrong."""
  config_lib.load(args.config, args.overrides)


def run(args: argparse.Namespace) -> None:
  module, config = config_lib.load(args.config, args.overrides)
  if args.print_config:
    print(json.dumps(config.to_dict(), indent=2, default=str))
    return
  task = tf_config.read()  # What is wrong with it is said at once, not after TensorFlow's import.
  source = config_lib.function(module, "source")
  model_class = config_lib.model_class(module, config)
  if task is not None and task.type == "evaluator":
    from tfps.job import evaluate as evaluation

    with config_lib.importing_beside(str(module.__file__)):
      source_to_score = evaluation.evaluation_source(config, module)
    evaluation.run(config, task, source_to_score, model_class)
    return
  from tfps import cluster

  cluster.strategy()  # A worker or ps serves from here on, and needs no data.
  from tfps.job import train as training

  validation_source = config_lib.optional_function(module, "validation_source")
  training.run(
    config,
    source(config),
    model_class,
    validation=validation_source(config) if validation_source else None,
    fill=config_lib.optional_function(module, "warm_start"),
    more_callbacks=config_lib.optional_function(module, "callbacks"),
  )
