"""What a replay found, and its verdict."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from tfps.replay.predictions import Pairs
from tfps.replay.records import Unusable

if TYPE_CHECKING:
  from tfps.replay.features import FeatureChecks
  from tfps.replay.predictions import Logged

LEVEL, DIFFERS, NOTHING = "level", "differs", "nothing was compared"


class Judged(NamedTuple):
  """A comparison that is part of the verdict.

  Attributes:
    what: a noun.
    compared: how many examples were compared.
    differ: how many of them differ.
    further: what else differs, in words; "" if nothing does.
  """

  what: str
  compared: int
  differ: int
  further: str = ""


class Wanted(NamedTuple):
  """What was asked for beside logged predictions, so that there must be something of it.

  Attributes:
    samples: features of training samples.
    code: features that the trainer's code makes.
    trainer: the trainer's predictions.
  """

  samples: bool = False
  code: bool = False
  trainer: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseReport:
  """What was replayed on one base.

  Attributes:
    version: its number.
    path: its path.
    first_state, state: the number of the last delta in it, and of the last one that was applied.
    step: the number of training steps that it holds now.
    logged: the predictions that the log says it made.
    features: the features of its requests.
  """

  version: int
  path: str
  first_state: int
  state: int
  step: int | None
  logged: Logged
  features: FeatureChecks

  def judged(self) -> list[tuple[str, Any]]:
    """(noun, comparison of features) of those that were made."""
    found = [
      (f"features as the trainer's code makes them, base {self.version}", self.features.code),
      (f"features of the samples, base {self.version}", self.features.samples),
    ]
    return [(what, comparison) for what, comparison in found if comparison.examples]


@dataclasses.dataclass(frozen=True)
class OtherVersion:
  """Predictions that no base which is there is known to have made.

  Attributes:
    version: the version that the log names; None where it names none.
    base: the base on which they were replayed, in its last state.
    pairs: what was logged, and what was replayed.
  """

  version: int | None
  base: int
  pairs: Pairs


@dataclasses.dataclass
class Report:
  """What `tfps.replay.run.replay` found.

  Attributes:
    tolerance, trainer_tolerance, allowed_share: as in its settings.
    files: the log's.
    requests, examples: how many there are in the log.
    versions: {version that the log names: how many examples}.
    every: every how many-th record was replayed.
    replayed: how many examples that is.
    samples_read: how many training samples were read; None if there were none to read.
    unusable: the records that could not be replayed.
    bases: a report for each base.
    others: predictions of other versions.
    checkpoint: the trainer's, and where the run was; "" if there is none.
    wanted: `Wanted`.
  """

  tolerance: float
  trainer_tolerance: float | None
  allowed_share: float
  files: list[str] = dataclasses.field(default_factory=list)
  requests: int = 0
  examples: int = 0
  versions: collections.Counter[int | None] = dataclasses.field(default_factory=collections.Counter)
  every: int = 1
  replayed: int = 0
  samples_read: int | None = None
  unusable: Unusable = dataclasses.field(default_factory=Unusable)
  bases: list[BaseReport] = dataclasses.field(default_factory=list)
  others: list[OtherVersion] = dataclasses.field(default_factory=list)
  checkpoint: str = ""
  wanted: Wanted = dataclasses.field(default_factory=Wanted)

  def judged(self) -> list[Judged]:
    """The comparisons that were made and count."""
    found = []
    for base in self.bases:
      for what, comparison in base.judged():
        lacking = [
          f"only {side} has {', '.join(names)}" for side, names in comparison.only.items() if names
        ]
        found.append(Judged(what, comparison.examples, comparison.differ, "; ".join(lacking)))
      if len(base.logged):
        differ = base.logged.differ(self.tolerance)
        found.append(Judged(f"predictions of base {base.version}", len(base.logged), differ))
      if self.trainer_tolerance is not None:
        differences = base.features.predictions.differences(self.trainer_tolerance)
        for name, found_there in differences.items():
          what = f"the trainer's {name}, base {base.version}"
          found.append(Judged(what, found_there.number, found_there.differ))
    return found

  @property
  def differing(self) -> list[Judged]:
    """Those of `judged` in which more differs than is allowed."""
    return [
      one for one in self.judged() if one.further or one.differ > self.allowed_share * one.compared
    ]

  @property
  def verdict(self) -> str:
    """`LEVEL`, `DIFFERS` or `NOTHING`: also if nothing was, of what was asked for."""
    if self.differing:
      return DIFFERS
    return NOTHING if self.missing else LEVEL

  @property
  def missing(self) -> list[str]:
    """Of what nothing was compared, in nouns."""
    found = [base.features for base in self.bases]
    missing = []
    if self.wanted.samples and not sum(one.samples.examples for one in found):
      missing.append("features of samples")
    if self.wanted.code and not sum(one.code.examples for one in found):
      missing.append("features that the config's code makes")
    if self.wanted.trainer and not any(one.predictions for one in found):
      missing.append("predictions of the trainer's model")
    if not missing and not any(one.compared for one in self.judged()):
      missing.append("predictions that the log has of a version")
    return missing

  @property
  def exit_code(self) -> int:
    """0 for level, 1 for different, 2 if nothing was compared."""
    return (LEVEL, DIFFERS, NOTHING).index(self.verdict)

  def as_dict(self) -> dict[str, Any]:
    """JSON values."""
    return {
      "verdict": self.verdict,
      "differing": [one._asdict() for one in self.differing],
      "missing": self.missing,
      "tolerance": self.tolerance,
      "log": {
        "files": self.files,
        "requests": self.requests,
        "examples": self.examples,
        "replayed": self.replayed,
        "versions": {_named(version): count for version, count in self.versions.items()},
        "unusable": [
          {"reason": reason, "records": count, "first": self.unusable.places[reason]}
          for reason, count in self.unusable.counts.most_common()
        ],
      },
      "samples": self.samples_read,
      "checkpoint": self.checkpoint or None,
      "bases": [self._base(base) for base in self.bases],
      "other_versions": [
        {
          "version": other.version,
          "base": other.base,
          "outputs": {
            name: found.as_dict("logged", "replayed")
            for name, found in other.pairs.differences(self.tolerance).items()
          },
        }
        for other in self.others
      ],
    }

  def _base(self, base: BaseReport) -> dict[str, Any]:
    features, tolerance = base.features, self.tolerance
    trainer = features.predictions.differences(
      tolerance if self.trainer_tolerance is None else self.trainer_tolerance
    )
    return {
      "version": base.version,
      "delta": base.state,
      "step": base.step,
      "features": {
        "code": features.code.as_dict() if features.code.examples else None,
        "samples": features.samples.as_dict() if features.samples.examples else None,
        "without_id": features.without_id,
        "without_sample": features.without_sample,
        "not_made": features.not_made,
        "bad_samples": features.bad_samples,
        "refused": features.refused,
      },
      "predictions": {
        "examples": len(base.logged),
        "differ": base.logged.differ(tolerance),
        "outputs": {
          name: found.as_dict("logged", "replayed")
          for name, found in base.logged.differences(tolerance).items()
        },
        "by_delta": {str(state): n for state, n in base.logged.states(tolerance).items()},
        "worst": base.logged.worst(tolerance),
      },
      "trainer": {name: found.as_dict("trainer", "served") for name, found in trainer.items()},
    }


def _named(version: int | None) -> str:
  return "none" if version is None else str(version)
