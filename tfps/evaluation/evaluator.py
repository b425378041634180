"""The evaluator's loop: restore a checkpoint, score examples, write metrics, wait for the next."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfps.checkpoint import CheckpointError, CheckpointManager
from tfps.checkpoint.folder import CHECKPOINTS
from tfps.evaluation.log import EvaluationLog
from tfps.evaluation.scores import ExampleScores
from tfps.graph.autograph import libraries_unconverted
from tfps.storage import files
from tfps.storage.complete_folder import MANIFEST
from tfps.training.position import Position
from tfps.training.scoring import check_features

if TYPE_CHECKING:
  from tfps.data.source import Source
  from tfps.data.ticket import Ticket
  from tfps.table.feasign_table import FeasignTable
  from tfps.training.model import Model

Over = TypeVar("Over")
_ORDERS = ("every", "newest")


class Evaluator:
  """Scores a source's examples with each checkpoint of a run; writes the metrics to TensorBoard.

  It restores into a model and tables of its own, in this process, and changes nothing in the
  checkpoints' folder. Metrics are written at the step that the dense optimizer had reached. What is
  in `log_dir` already is not evaluated again.

  Args:
    folder: where the run's checkpoints are.
    model: a compiled `tfps.Model` like the run's, whose outputs are click probabilities.
    tables: its `tfps.FeasignTable`s, made without a cluster's strategy.
    source: the `tfps.data` source to score.
    log_dir: folder for TensorBoard's files.
    gauc_slot: the feature that groups examples for GAUC; see `ExampleScores`.
    slots: the features whose values have metrics of their own; see `ExampleScores`.
    most_values: for how many values of such a feature; see `ExampleScores`.
    max_examples: about how many examples of a larger source are scored: the same tickets each
      time, evenly spread over it. 0: all.
    checkpoints: "every" evaluates each checkpoint; "newest" skips those that a newer one has
      followed by the time they are due.
    outputs: names of the outputs that are measured, where others are no probabilities; all by
      default. Of several outputs, each has tags that begin with its name.

  Raises:
    ValueError: an argument is out of its range, or the source is empty or has no such feature.

  Examples:
    >>> saver = tfps.callbacks.Checkpoint("checkpoints", every_days=2)
    >>> history = model.fit(source, callbacks=[saver], verbose=0)
    >>> evaluator = tfps.evaluation.Evaluator("checkpoints", model, [table], source, "logs")
    >>> evaluator.evaluate_next()  # doctest: +ELLIPSIS
    checkpoint-1 (step 4, ...): AUC ...
    'checkpoints/checkpoint-1'
  """

  def __init__(
    self,
    folder: str,
    model: Model,
    tables: Sequence[FeasignTable],
    source: Source,
    log_dir: str,
    *,
    gauc_slot: str = "",
    slots: Sequence[str] = (),
    most_values: int = 20,
    max_examples: int = 1_000_000,
    checkpoints: str = "every",
    outputs: Sequence[str] = (),
  ) -> None:
    if checkpoints not in _ORDERS:
      raise ValueError(f"checkpoints must be one of {_ORDERS}, not '{checkpoints}'.")
    for name, value, least in (("most_values", most_values, 1), ("max_examples", max_examples, 0)):
      if value < least:
        raise ValueError(f"{name} must be {least} or more, not {value}.")
    check_features(source, ExampleScores(gauc_slot, slots).features)
    self._manager = CheckpointManager(folder, model, tables, read_only=True)
    self._model = model
    self._source = source
    self._tickets = spread(list(source.tickets()), max_examples)
    self._log = EvaluationLog(log_dir)
    self._newest_only = checkpoints == "newest"
    self._scores = lambda: ExampleScores(gauc_slot, slots, most_values, outputs, model.output_names)
    self._passed = set(self._log.done)  # identities of checkpoints that are evaluated, or gone

  def follow(self, over: Callable[[], Over], poll_seconds: float = 10.0) -> Over:
    """Evaluates what there is and what comes, until training is over.

    Args:
      over: a function that says whether no checkpoint will come any more: what is there when it
        first returns something true is still evaluated.
      poll_seconds: how long to wait before looking for new checkpoints.

    Returns:
      What `over` returned.

    Raises:
      CheckpointError: a checkpoint is damaged, or is not one of this model.
    """
    while True:
      told = over()
      if not self.evaluate_next():
        if told:
          return told
        time.sleep(poll_seconds)

  @libraries_unconverted()
  def evaluate_next(self) -> str | None:
    """Evaluates the next checkpoint, prints one line about it, and returns its path.

    None where there is none.
    """
    pending = self._pending()
    if not pending:
      return None
    if self._newest_only:
      self._passed.update(identity for _, identity in pending[:-1])
      pending = pending[-1:]
    path, identity = pending[0]
    self._passed.add(identity)
    begin = time.monotonic()
    self._model.build_for(self._source)  # A checkpoint is restored into variables that exist.
    try:
      position = Position(**self._manager.restore(path))
    except (CheckpointError, tf.errors.OpError):
      if _identity(path) == identity:
        raise
      print(f"{path} was removed while it was read; going on with the next.", flush=True)
      return path
    scores = self._score()
    results = scores.results()
    step = int(self._model.optimizer.iterations.numpy())
    self._log.write(identity, results, step)
    _print_line(path, position, step, results, time.monotonic() - begin, len(pending) - 1)
    return path

  def _score(self) -> ExampleScores:
    scores = self._scores()
    total = sum(ticket.records for ticket in self._tickets)
    with tqdm(total=total, unit=" examples", delay=1, leave=False, disable=None) as bar:
      for scored in self._model.score(self._source, self._tickets, scores.features):
        scores.update(scored)
        bar.update(len(tf.nest.flatten(scored["y_pred"])[0]))
    return scores

  def _pending(self) -> list[tuple[str, str]]:
    """[(path, identity)] of the checkpoints that are still to be evaluated, the oldest first."""
    folder = self._manager.folder
    paths = [CHECKPOINTS.path_of(folder, number) for number in CHECKPOINTS.numbers(folder)]
    found = [(path, _identity(path)) for path in paths]
    return [
      (path, identity) for path, identity in found if identity and identity not in self._passed
    ]


def _identity(path: str) -> str | None:
  """Returns a text that tells this checkpoint from one of the same name in another run.

  None if the checkpoint is gone.
  """
  try:
    with tf.io.gfile.GFile(files.join(path, MANIFEST), "rb") as file:
      return f"{path.rsplit('/', 1)[-1]} {zlib.crc32(file.read()):08x}"
  except tf.errors.NotFoundError:
    return None


def spread(tickets: list[Ticket], max_examples: int) -> list[Ticket]:
  """Returns evenly spread tickets that hold about `max_examples` records; all if that is 0."""
  records = sum(ticket.records for ticket in tickets)
  if not records:
    raise ValueError("there are no examples to evaluate: the source is empty.")
  if not max_examples or records <= max_examples:
    return tickets
  count = max(1, len(tickets) * max_examples // records)
  return [tickets[i] for i in np.linspace(0, len(tickets), count, endpoint=False).astype(int)]


def _print_line(
  path: str,
  position: Position,
  step: int,
  results: Mapping[str, float],
  seconds: float,
  behind: int,
) -> None:
  told = "; ".join(_told(results, prefix) for prefix in _prefixes(results))
  more = f"; {behind} more to evaluate" if behind else ""
  name = path.rsplit("/", 1)[-1]
  print(f"{name} (step {step:,}, {position}): {told} [{seconds:.1f} s{more}]", flush=True)


def _prefixes(results: Mapping[str, float]) -> list[str]:
  """What the tags of each output begin with: "" of an output without a name."""
  tags = [tag for tag in results if tag == "log_loss" or tag.endswith("/log_loss")]
  return [tag.removesuffix("log_loss") for tag in tags]


def _told(results: Mapping[str, float], prefix: str) -> str:
  names = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log loss", "calibration": "calibration"}
  tags = {tag: prefix + tag for tag in names}
  told = [f"{names[tag]} {results[full]:.4f}" for tag, full in tags.items() if full in results]
  return " ".join(filter(None, [prefix.rstrip("/"), ", ".join(told)]))
