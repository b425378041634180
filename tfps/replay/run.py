"""Replays a log against an export folder, a state of the server after the other."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from tfps.data.file_days import expand
from tfps.errors import ExportError
from tfps.export import extras
from tfps.replay.features import FeatureChecks, Predictor, Trainer
from tfps.replay.log import Log
from tfps.replay.predictions import Logged, Pairs
from tfps.replay.records import Unusable
from tfps.replay.report import BaseReport, OtherVersion, Report, Wanted
from tfps.replay.request import Fields, Request
from tfps.replay.samples import Samples
from tfps.replay.served import Served, versions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What is replayed, and what counts as level.

  Attributes:
    folder: the export folder.
    log: paths or globs of the log's files.
    version: the base that requests are replayed on, and that those that name none are taken to be
      of; None: each on its own where it is there, else on the newest.
    deltas: the number of the last delta that may have been applied; None for all that are there.
    samples: paths or globs of the training samples.
    fields: `tfps.replay.request.Fields`.
    slots: the slots to compare; all where it is empty.
    tolerance: the largest difference at which two predictions count as equal.
    trainer_tolerance: the same between artifact and trainer; None: that is no part of the verdict.
    allowed_share: the share of the examples that may differ, in each comparison.
    max_examples: about how many examples are replayed, evenly spread over the log; 0 for all.
  """

  folder: str
  log: Sequence[str]
  version: int | None = None
  deltas: int | None = None
  samples: Sequence[str] = ()
  fields: Fields = dataclasses.field(default_factory=Fields)
  slots: Sequence[str] = ()
  tolerance: float = 1e-6
  trainer_tolerance: float | None = None
  allowed_share: float = 0.0
  max_examples: int = 100_000


def replay(
  settings: Settings,
  trainer: Trainer | None = None,
  predictor: Predictor | None = None,
) -> Report:
  """Replays a log, which is read once to be counted and once for each state of each version.

  Args:
    settings: `Settings`.
    trainer: makes features as the trainer does; None if only predictions and samples are compared.
    predictor: predicts as the trainer does.

  Raises:
    ExportError: there is no such version, or an artifact is damaged or cannot be loaded.
    FileNotFoundError: a path or glob names no file.
    ValueError: a slot to compare is none of the model's.
  """
  extras.check_serving_api()
  return _Replay(settings, trainer, predictor).run()


class _Replay:
  """One run of `replay`."""

  def __init__(
    self, settings: Settings, trainer: Trainer | None, predictor: Predictor | None
  ) -> None:
    self._settings, self._trainer, self._predictor = settings, trainer, predictor
    folder = settings.folder.rstrip("/")
    self._there = versions(folder)
    newest = self._there[-1] if settings.version is None else settings.version
    if newest not in self._there:
      raise ExportError(
        f"{folder} has no base {newest}; it has {', '.join(map(str, self._there))}."
      )
    self._folder, self._newest = folder, newest
    self._files, self._samples = _files(settings.log), _files(settings.samples)
    self._unusable, self._nothing = Unusable(), Unusable()
    self._refusals: set[int] = set()
    self._report = Report(settings.tolerance, settings.trainer_tolerance, settings.allowed_share)
    self._report.wanted = Wanted(bool(settings.samples), trainer is not None, predictor is not None)

  def run(self) -> Report:
    settings, report = self._settings, self._report
    served = Served(self._folder, self._newest, settings.deltas)
    try:
      log = Log(self._files, served.raw, served.outputs, settings.fields)
      counts = self._count(log)
      every = 1
      if settings.max_examples:
        every = max(1, -(-report.examples // settings.max_examples))
      targets = sorted({self._target(version) for version in counts} | {self._newest})
      samples = self._pair(log, every)
      try:
        for target in targets:
          if target == self._newest:
            self._replay(served, log, every, samples)
            continue
          other = Served(self._folder, target, settings.deltas)
          try:
            self._replay(other, log, every, samples)
          finally:
            other.close()
      finally:
        if samples is not None:
          samples.close()
    finally:
      served.close()
    report.every = every
    report.unusable = self._unusable
    return report

  def _target(self, version: int | None) -> int:
    """The base on which the requests of a version are replayed."""
    if self._settings.version is None and version in self._there:
      return int(version)
    return self._newest

  def _is_of(self, request: Request, target: int) -> bool:
    """Whether the log says that the base `target` served a request."""
    if request.version is None:
      return self._settings.version is not None
    return request.version == target

  def _count(self, log: Log) -> collections.Counter[int | None]:
    """Reads the log once; returns {version: how many examples}."""
    report = self._report
    report.files = log.paths
    with _bar("reading the log") as bar:
      for request in log.requests(self._unusable):
        report.requests += 1
        report.examples += len(request)
        report.versions[request.version] += len(request)
        bar.update(len(request))
    return report.versions

  def _pair(self, log: Log, every: int) -> Samples | None:
    """Finds the samples of the examples that are replayed."""
    settings = self._settings
    if not settings.samples:
      return None
    wanted = {
      hash(id)
      for request in log.requests(self._nothing, every)
      for id in request.ids
      if id is not None
    }
    samples = Samples()
    with _bar("reading the samples", unit=" samples") as bar:
      samples.fill(self._samples, settings.fields.ids, wanted, self._unusable, bar.update)
    self._report.samples_read = samples.read
    return samples

  def _replay(self, served: Served, log: Log, every: int, samples: Samples | None) -> None:
    """Replays the requests of one base, in each state that it had."""
    target = served.manifest.version
    predictor = self._predictor if target == self._newest else None
    features = FeatureChecks(
      served, self._trainer, predictor, samples, self._settings.tolerance, self._settings.slots
    )
    logged, first_state = Logged(), served.delta
    self._try_state(served, log, every, logged, is_first=True)
    while served.advance():
      self._try_state(served, log, every, logged, is_first=False)
    others: dict[int | None, Pairs] = {}
    logged.rewind()
    for request in self._of(log, every, served):
      self._report.replayed += len(request)
      features.add(request)
      if request.outputs and self._is_of(request, target):
        logged.keep_worst(logged.next(request), request)
      elif request.outputs:
        with self._refused(request):
          now = served.predict(request.signature, request.inputs)
          others.setdefault(request.version, Pairs()).add(request.outputs, now)
    features.flush()
    self._report.bases.append(
      BaseReport(
        version=target, path=served.path, first_state=first_state, state=served.delta,
        step=served.step, logged=logged, features=features,
      )
    )  # fmt: skip
    self._report.others += [
      OtherVersion(version, target, pairs) for version, pairs in sorted(others.items(), key=str)
    ]

  def _try_state(
    self, served: Served, log: Log, every: int, logged: Logged, is_first: bool
  ) -> None:
    """Replays what was logged and is not yet the prediction of an earlier state."""
    logged.rewind()
    unusable = self._unusable if is_first else None
    for request in self._of(log, every, served, unusable):
      if not request.outputs or not self._is_of(request, served.manifest.version):
        continue
      place = logged.next(request)
      if not logged.is_settled(place):
        with self._refused(request):
          outputs = served.predict(request.signature, request.inputs)
          logged.update(place, request, outputs, served.delta)

  @contextlib.contextmanager
  def _refused(self, request: Request) -> Iterator[None]:
    """Counts a request that the artifact refuses, once."""
    try:
      yield
    except ValueError as error:
      if request.number not in self._refusals:
        self._refusals.add(request.number)
        reason = "the artifact refuses what the server answered"
        self._unusable.add(reason, request.where[0].place, str(error))

  def _of(
    self, log: Log, every: int, served: Served, unusable: Unusable | None = None
  ) -> Iterator[Request]:
    """The requests that are replayed on a base; those that are none for its model are counted."""
    target = served.manifest.version
    total = -(-self._report.examples // every)
    with _bar(f"base {target} with delta {served.delta}", total) as bar:
      for request in log.requests(self._nothing, every):
        bar.update(len(request))
        if self._target(request.version) != target:
          continue
        if problem := served.problem(request):
          if unusable is not None:
            place = request.where[0].place
            unusable.add("the request is none for the model", place, problem)
          continue
        yield request


def _bar(text: str, total: int | None = None, unit: str = " examples") -> tqdm:
  return tqdm(desc=text, total=total, unit=unit, delay=1, leave=False, disable=None)


def _files(patterns: Sequence[str]) -> list[str]:
  """The files that paths and globs mean, each once."""
  return list(dict.fromkeys(expand(patterns)))
