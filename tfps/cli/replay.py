"""Replays what a server saw, and says where features or predictions differ, and in which slot.

EXPORT_FOLDER is the folder that exports go to, of one model. LOG is a file or glob, compressed if
its name ends in .gz: TFRecord with TensorFlow Serving's PredictionLog messages, or a feature log,
tf.Examples in TFRecord or a JSON object per line, with the raw inputs by name. A feature log may
have the fields request_id and item_id, prediction and model_version.

What is compared:
  logged predictions with those of the artifact, which TensorFlow's session loader makes of the
    logged request: of the base that the log names, alone and after each of its deltas in turn;
  with --samples: the features of an example in the log with those of the training sample of the
    same id, slot by slot;
  with --config: the features that the artifact makes with those that the code of the config's
    source makes today of the same raw inputs;
  with --checkpoint: the artifact's predictions with the model's own.
Where a slot differs, the example is predicted with the trainer's value of this slot alone.

The exit code is 0 if everything is level, 1 if something differs (or after an error, which is told
on stderr), 2 if nothing was compared.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from tfps.cli import config as config_lib

if TYPE_CHECKING:
  from tfps.job.replay import ConfigTrainer

NAME = "replay"
HELP = "compare what a server saw with the artifact and the trainer, slot by slot"
OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.usage = (
    "tfps replay EXPORT_FOLDER LOG [LOG ...] [--version N] [--deltas N] [--samples FILE ...] "
    "[--config=FILE [--config.FIELD=VALUE ...] [--checkpoint=PATH]] [--slots SLOT ...] "
    "[--tolerance X] [--json] [...]"
  )
  parser.add_argument("folder", metavar="EXPORT_FOLDER", help="the folder that exports go to")
  parser.add_argument("log", metavar="LOG", nargs="+", help="files or globs of the log")
  parser.add_argument(
    "--version",
    type=_whole,
    metavar="N",
    help="replay on this base, and take a log that names no version to be of it; by default each "
    "request is replayed on the base that it names, and on the newest if that is not there",
  )
  parser.add_argument(
    "--deltas",
    type=_whole,
    metavar="N",
    help="apply deltas up to number N; all that are there by default, 0 for the base alone",
  )
  parser.add_argument(
    "--samples",
    nargs="+",
    default=(),
    metavar="FILE",
    help="files or globs of training samples, TFRecord of tf.Examples, as tfps join writes them",
  )
  parser.add_argument("--config", metavar="FILE", help="the config that the model was trained with")
  parser.add_argument(
    "--checkpoint",
    metavar="PATH",
    help="a checkpoint, or a folder of checkpoints whose newest is taken; needs --config",
  )
  parser.add_argument(
    "--id",
    nargs="+",
    default=("request_id", "item_id"),
    metavar="FIELD",
    help="the fields that identify an example together, in the log and in the samples; "
    "request_id item_id by default",
  )
  parser.add_argument(
    "--prediction",
    default="prediction",
    metavar="FIELD",
    help="the field of a feature log with the prediction; of several outputs FIELD/OUTPUT each",
  )
  parser.add_argument(
    "--model-name", metavar="NAME", help="replay only requests for this model of the log"
  )
  parser.add_argument(
    "--slots", nargs="+", default=(), metavar="SLOT", help="compare only these slots"
  )
  parser.add_argument(
    "--tolerance",
    type=_number,
    default=1e-6,
    metavar="X",
    help="the largest difference at which two predictions count as equal, default 1e-6",
  )
  parser.add_argument(
    "--trainer-tolerance",
    type=_number,
    metavar="X",
    help="the same for the predictions of --checkpoint; without it they are reported, and are no "
    "part of the verdict: the trainer has rows that are not served, and has moved on",
  )
  parser.add_argument(
    "--allowed-share",
    type=_number,
    default=0.0,
    metavar="X",
    help="the share of the examples of each comparison that may differ, default 0",
  )
  parser.add_argument(
    "--max-examples",
    type=_whole,
    default=100_000,
    metavar="N",
    help="about how many examples are replayed, evenly spread; 100000 by default, 0 for all",
  )
  parser.add_argument("--json", action="store_true", help="write JSON")


def run(args: argparse.Namespace) -> int:
  if args.checkpoint and not args.config:
    args.parser.error("--checkpoint needs --config")
  if args.overrides and not args.config:
    args.parser.error(f"unrecognized arguments: {' '.join(args.overrides)}")
  trainer = _trainer(args) if args.config else None
  from tfps.cli import replay_text
  from tfps.replay.log import Fields
  from tfps.replay.run import Settings, replay

  settings = Settings(
    folder=args.folder,
    log=args.log,
    version=args.version,
    deltas=args.deltas,
    samples=args.samples,
    fields=Fields(ids=tuple(args.id), prediction=args.prediction, model=args.model_name),
    slots=args.slots,
    tolerance=args.tolerance,
    trainer_tolerance=args.trainer_tolerance,
    allowed_share=args.allowed_share,
    max_examples=args.max_examples,
  )
  report = replay(settings, trainer, trainer if args.checkpoint else None)
  report.checkpoint = trainer.checkpoint if trainer else ""
  if args.json:
    print(json.dumps(_plain(report.as_dict()), indent=2, allow_nan=False))
  else:
    print(replay_text.text(report))
  return report.exit_code


def _trainer(args: argparse.Namespace) -> ConfigTrainer:
  module, config = config_lib.load(args.config, args.overrides)
  make_source = config_lib.function(module, "source")
  model_class = config_lib.model_class(module, config)
  from tfps.job.replay import ConfigTrainer

  with config_lib.importing_beside(str(module.__file__)):
    source = make_source(config)
  name = args.folder.rstrip("/").rpartition("/")[2]  # Of several models each has its own.
  return ConfigTrainer(config, source, model_class, args.checkpoint or "", name)


def _plain(value: Any) -> Any:
  """JSON has no infinity: null stands for it, and for what is not a number."""
  if isinstance(value, dict):
    return {key: _plain(one) for key, one in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(one) for one in value]
  if isinstance(value, float) and not -float("inf") < value < float("inf"):
    return None
  return value


def _whole(text: str) -> int:
  value = int(text)
  if value < 0:
    raise argparse.ArgumentTypeError(f"{text} must be 0 or more")
  return value


def _number(text: str) -> float:
  value = float(text)
  if not value >= 0:
    raise argparse.ArgumentTypeError(f"{text} must be 0 or more")
  return value
