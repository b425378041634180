"""Reports how much AUC a checkpoint's model loses when the values of a slot are shuffled.

CHECKPOINT is a checkpoint's folder, or a folder of checkpoints, of which the newest is taken. What
is scored is what an evaluator scores: evaluation_source(config) of the config, or the last day of
its source. Each slot's values are shuffled among the examples of a ticket (config.batch_size times
config.batches_per_ticket), and the examples are scored again. A slot whose loss is near 0 adds
nothing that the others do not have.

Fields of the config are overridden like --config.batches_per_ticket=20.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from tfps.cli import config as config_lib
from tfps.cli import output

if TYPE_CHECKING:
  from tfps.evaluation.importance import Importance

NAME = "importance"
HELP = "report the loss in AUC when a slot is shuffled"
OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.usage = (
    "tfps importance CHECKPOINT --config=FILE [--config.FIELD=VALUE ...] [--slots SLOT ...] "
    "[--max-examples N] [--seed N] [--json] [--verbose]"
  )
  parser.add_argument("path", metavar="CHECKPOINT", help="a checkpoint, or a folder of checkpoints")
  parser.add_argument(
    "--config", required=True, metavar="FILE", help="the config that it was trained with"
  )
  parser.add_argument(
    "--slots",
    nargs="+",
    default=(),
    metavar="SLOT",
    help="the slots to shuffle, all of config.slots by default; SLOT+FEATURE shuffles two features "
    "of the source together, as a slot and the weights of its ids have to be",
  )
  parser.add_argument(
    "--max-examples",
    type=int,
    default=100_000,
    metavar="N",
    help="about how many examples are scored, evenly spread; 100000 by default, 0 for all",
  )
  parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the shuffling")
  parser.add_argument("--json", action="store_true", help="write JSON")


def run(args: argparse.Namespace) -> None:
  for name in ("max_examples", "seed"):
    if getattr(args, name) < 0:
      args.parser.error(f"--{name.replace('_', '-')} must be 0 or more, not {getattr(args, name)}")
  module, config = config_lib.load(args.config, args.overrides)
  config_lib.function(module, "source")
  model_class = config_lib.model_class(module, config)
  from tfps.job import evaluate, importance

  with config_lib.importing_beside(str(module.__file__)):
    source = evaluate.evaluation_source(config, module)
  path, position, found = importance.measure(
    args.path, config, source, model_class, args.slots, args.max_examples, args.seed
  )
  if args.json:
    print(json.dumps({"checkpoint": path, "position": str(position), **found.as_dict()}, indent=2))
  else:
    print(f"{path} ({position}), {found.examples:,} examples:\n{text(found)}")


def text(found: Importance) -> str:
  """A table for each output: its AUC, and what it loses with each slot."""
  blocks = []
  for name, scores in found.whole.items():
    rows = [["slot shuffled", "AUC", "loss in AUC"], ["none", f"{scores.auc:.4f}", ""]]
    rows += [[slot, f"{auc:.4f}", f"{lost:.4f}"] for slot, auc, lost in found.ranking(name)]
    lines = [f"  {line}" for line in output.columns(rows, right=(1, 2))]
    blocks.append("\n".join([f"output {name}", *lines] if name else lines))
  return "\n".join(blocks)
