"""What `tfps importance` does: a checkpoint is scored with each slot shuffled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tf_keras as keras
from tqdm import tqdm

from tfps.errors import ConfigError
from tfps.evaluation.evaluator import spread
from tfps.evaluation.importance import Importance, shuffle_slots
from tfps.job import restored
from tfps.training.position import Position

if TYPE_CHECKING:
  from tfps.data.source import Source
  from tfps.training.model import Model


def measure(
  path: str,
  config: Any,
  source: Source,
  model_class: Callable[..., Model],
  slots: Sequence[str] = (),
  max_examples: int = 100_000,
  seed: int = 0,
) -> tuple[str, Position, Importance]:
  """Restores a checkpoint and shuffles one slot after the other.

  Args:
    path: a checkpoint, or a folder of checkpoints, of which the newest is taken.
    config: ConfigDict with the fields of `tfps.training.config.default_config`.
    source: the `tfps.data` source to score.
    model_class: as for `tfps.job.train.run`.
    slots: as in `tfps.evaluation.shuffle_slots`; all of config.slots that are features by default.
    max_examples: about how many examples are scored, evenly spread over the source; 0 for all.
    seed: of the shuffling.

  Returns:
    (the checkpoint's path, where the run was, what was measured).

  Raises:
    CheckpointError: the checkpoint is missing or damaged, or is not one of this model.
    ConfigError: a field does not fit the model or the source.
    ValueError: the source is empty, or has no such slot.
  """
  if source.is_endless:
    raise ConfigError(
      "a stream has no end to score: let evaluation_source(config) of the config return a "
      "tfps.data.source."
    )
  checkpoint, position, model = restored.restore(path, config, source, model_class)
  if not slots:
    x, *_ = keras.utils.unpack_x_y_sample_weight(source.element_spec)
    slots = [slot for slot in config.slots if slot in x]
  tickets = spread(list(source.tickets()), max_examples)
  total = sum(ticket.records for ticket in tickets)
  with tqdm(total=total, unit=" examples", delay=1, leave=False, disable=None) as bar:
    found = shuffle_slots(
      model, source, slots, tickets=tickets, seed=seed, outputs=config.scored_outputs,
      scored=bar.update,
    )  # fmt: skip
  return checkpoint, position, found
