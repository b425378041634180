"""How much a model's AUC loses when the values of a slot are shuffled among examples."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfps.graph.autograph import traced
from tfps.learning.metrics import ClickScores
from tfps.learning.outputs import ONLY, OutputScores
from tfps.training.scoring import check_features

if TYPE_CHECKING:
  from tfps.data.source import Source
  from tfps.data.ticket import Ticket
  from tfps.training.model import Model


@dataclasses.dataclass(frozen=True)
class Importance:
  """Permutation importance of slots (Breiman 2001, "Random forests", section 10).

  Attributes:
    examples: how many were scored.
    whole: {output: the `tfps.learning.metrics.ClickScores` of the examples as they are}.
    shuffled: {slot: {output: those with the slot's values shuffled}}. The name of a model's only
      output is "".

  Examples:
    >>> found = tfps.evaluation.shuffle_slots(model, source, ["user_id"], seed=1)
    >>> [slot for slot, auc, lost in found.ranking("")]
    ['user_id']
    >>> sorted(found.as_dict())
    ['auc', 'examples', 'slots']
  """

  examples: int
  whole: dict[str, ClickScores]
  shuffled: dict[str, dict[str, ClickScores]]

  def ranking(self, output: str) -> list[tuple[str, float, float]]:
    """[(slot, AUC when it is shuffled, loss in AUC)], the largest loss first, NaN last."""
    whole = self.whole[output].auc
    rows = [(slot, of[output].auc) for slot, of in self.shuffled.items()]
    ranked = [(slot, auc, whole - auc) for slot, auc in rows]
    return sorted(ranked, key=lambda row: (np.isnan(row[2]), -row[2]))

  def as_dict(self) -> dict[str, Any]:
    """JSON values: "auc" and "slots" of the only output, or of each in "outputs"."""
    by_output = {
      output: {
        "auc": scores.auc,
        "slots": [
          {"slot": slot, "auc": auc, "auc_lost": lost} for slot, auc, lost in self.ranking(output)
        ],
      }
      for output, scores in self.whole.items()
    }
    parts = by_output[ONLY] if set(by_output) == {ONLY} else {"outputs": by_output}
    return {"examples": self.examples, **parts}


def shuffle_slots(
  model: Model,
  source: Source,
  slots: Sequence[str],
  *,
  tickets: Iterable[Ticket] | None = None,
  seed: int = 0,
  outputs: Sequence[str] = (),
  scored: Callable[[int], Any] = lambda examples: None,
) -> Importance:
  """Scores a source's examples as they are, and once for each slot with its values shuffled.

  Values are shuffled among the examples of a ticket, the order being a pure function of seed,
  ticket and slot; so not more than a ticket's examples are in memory, and of a compressed file, as
  many. Where examples of one user, or of one day, stand together, a ticket must hold many of them.

  Args:
    model: a compiled `tfps.Model` in this process.
    source: the `tfps.data` source.
    slots: features of the source; "tags+weights" shuffles two together, as a slot and the weights
      of its ids have to be.
    tickets: those of the source's tickets that are scored; all by default.
    seed: of the shuffling.
    outputs: names of the outputs that are scored; all that have labels by default.
    scored: called with the number of examples whenever some are scored.

  Raises:
    ValueError: the source's examples have no such feature, or it has no examples or no labels.

  Examples:
    >>> found = tfps.evaluation.shuffle_slots(model, source, ["user_id", "item_id"])
    >>> [slot for slot, auc, lost in sorted(found.ranking(""))], found.examples
    (['item_id', 'user_id'], 128)
  """
  groups = {slot: slot.split("+") for slot in slots}
  check_features(source, [name for names in groups.values() for name in names])
  model.build_for(source)
  view = source.whole_tickets()
  x_spec, *_ = keras.utils.unpack_x_y_sample_weight(view.element_spec)
  call = tf.function(lambda x: model(x, training=False))
  predict = traced(lambda: call.get_concrete_function(x_spec))
  make = lambda: OutputScores(outputs, model.output_names)
  whole, shuffled, examples = make(), {slot: make() for slot in groups}, 0
  for ticket in view.tickets() if tickets is None else tickets:
    for part, batch in enumerate(_batches(view, ticket)):
      x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
      known = {"y": y, "sample_weight": weight}
      known = {name: _numpy(value) for name, value in known.items() if value is not None}
      whole.update({**known, "y_pred": _numpy(predict(x))})
      count = _rows(next(iter(x.values())))
      for slot, names in groups.items():
        key = [seed, ticket.day, ticket.sequence, part, zlib.crc32(slot.encode())]
        order = np.random.default_rng(key).permutation(count)
        other = {**x, **{name: _taken(x[name], order) for name in names}}
        shuffled[slot].update({**known, "y_pred": _numpy(predict(other))})
      examples += count
      scored(count)
  if not whole.of:
    raise ValueError("there is nothing to score: the source has no examples, or no labels.")
  return Importance(examples, whole.of, {slot: scores.of for slot, scores in shuffled.items()})


def _batches(source: Source, ticket: Ticket) -> Iterable[Any]:
  try:
    yield from source.open(ticket)
  except (tf.errors.OpError, OSError, ValueError) as error:
    raise source.explain(ticket, error) from error


def _numpy(structure: Any) -> Any:
  return tf.nest.map_structure(lambda value: value.numpy(), structure)


def _rows(feature: Any) -> int:
  return int(feature.dense_shape[0] if isinstance(feature, tf.SparseTensor) else feature.shape[0])


def _taken(feature: Any, order: np.ndarray) -> Any:
  """The rows of a dense, ragged or sparse feature in another order: row i is row order[i]."""
  if not isinstance(feature, tf.SparseTensor):
    return tf.gather(feature, order)
  place = np.argsort(order)  # Where each row goes.
  rows = tf.gather(place, feature.indices[:, 0])
  indices = tf.concat([rows[:, tf.newaxis], feature.indices[:, 1:]], axis=1)
  return tf.sparse.reorder(tf.SparseTensor(indices, feature.values, feature.dense_shape))
