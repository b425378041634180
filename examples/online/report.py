"""The results of a run: click rates by minute, the time to recover, and the plot."""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

BUCKET_SECONDS = 10
_WINDOW = 3  # buckets over which a rate is taken
_RECOVERED = 0.8  # of the click rate of one who knows the world
_KINDS = ("ranked", "random")


class Counts:
  """Shows and clicks of ranked and random traffic, by ten seconds since the beginning."""

  def __init__(self, seconds: float) -> None:
    buckets = int(np.ceil(seconds / BUCKET_SECONDS)) + 1
    self.shows = {kind: np.zeros(buckets) for kind in _KINDS}
    self.clicks = {kind: np.zeros(buckets) for kind in _KINDS}
    self.perfect = {kind: np.zeros(buckets) for kind in _KINDS}

  def add(self, seconds: float, kind: str, shows: int, clicks: int, perfect: float) -> None:
    bucket = min(int(seconds // BUCKET_SECONDS), len(self.shows[kind]) - 1)
    for counts, number in ((self.shows, shows), (self.clicks, clicks), (self.perfect, perfect)):
      counts[kind][bucket] += number

  def rate(self, kind: str, begin: float, end: float) -> float:
    """Clicks per show from second `begin` to `end`; NaN without shows."""
    part = slice(int(begin // BUCKET_SECONDS), int(end // BUCKET_SECONDS))
    return _divide(self.clicks[kind][part].sum(), self.shows[kind][part].sum())

  def best(self, begin: float, end: float) -> float:
    """The rate that a perfect ranking would reach."""
    part = slice(int(begin // BUCKET_SECONDS), int(end // BUCKET_SECONDS))
    return _divide(
      sum(self.perfect[kind][part].sum() for kind in _KINDS),
      sum(self.shows[kind][part].sum() for kind in _KINDS),
    )

  def smooth(self, kind: str) -> np.ndarray:
    """The rate in windows of half a minute, by ten seconds."""
    window = np.ones(_WINDOW)
    return _divide(
      *(np.convolve(x[kind], window)[: len(x[kind])] for x in (self.clicks, self.shows))
    )


@dataclasses.dataclass
class Result:
  """One run of the circle.

  Attributes:
    name: how deltas were exported, such as "10s".
    counts: the `Counts`.
    change: the second at which taste changed.
    end: the last second.
    served: seconds from events to the server, on average over deltas; NaN without deltas.
  """

  name: str
  counts: Counts
  change: float
  end: float
  served: float = float("nan")

  @property
  def minutes_to_recover(self) -> float | None:
    """Minutes after the change until ranked traffic reached `_RECOVERED` of the best.

    None if it did not.
    """
    goal = _RECOVERED * self.counts.best(self.change, self.end)
    first = int(self.change // BUCKET_SECONDS)
    for end in range(first + 1, int(self.end // BUCKET_SECONDS) + 1):
      begin = max(first, end - _WINDOW)
      if self.counts.rate("ranked", begin * BUCKET_SECONDS, end * BUCKET_SECONDS) >= goal:
        return (end * BUCKET_SECONDS - self.change) / 60
    return None

  def line(self) -> str:
    """The run in one sentence."""
    before = self.counts.rate("ranked", self.change - 60, self.change)
    random = self.counts.rate("random", self.change - 60, self.change)
    minutes = self.minutes_to_recover
    recovered = f"{minutes:.1f} minutes" if minutes is not None else "not within the run"
    text = (
      f"deltas {self.name}: {before:.1%} of ranked shows clicked in the minute before the change, "
      f"{random:.1%} of random ones; recovered after {recovered}"
    )
    if not np.isnan(self.served):
      text += f"; from show to served {self.served:.0f} s on average"
    return text

  def save(self, path: pathlib.Path) -> None:
    content = {
      "name": self.name,
      "change": self.change,
      "end": self.end,
      "minutes_to_recover": self.minutes_to_recover,
      "seconds_to_served": None if np.isnan(self.served) else self.served,
      "ranked": np.nan_to_num(self.counts.smooth("ranked")).tolist(),
      "random": np.nan_to_num(self.counts.smooth("random")).tolist(),
    }
    path.write_text(json.dumps(content, indent=2))


def minute_line(counts: Counts, minute: int, changed: bool) -> str:
  """The line that is printed after a minute."""
  begin, end = 60 * minute, 60 * (minute + 1)
  ranked, random = (counts.rate(kind, begin, end) for kind in _KINDS)
  note = "   (taste has changed)" if changed else ""
  if np.isnan(ranked):
    return f"minute {minute + 1:>2}:  no model yet      random {random:6.1%}{note}"
  return (
    f"minute {minute + 1:>2}:  ranked {ranked:6.1%}   random {random:6.1%}   "
    f"{ranked / max(random, 1e-9):4.1f} times   best possible {counts.best(begin, end):6.1%}{note}"
  )


def seconds_to_served(log: str) -> float:
  """The mean over a sync's deltas of the age of what they add; NaN where there are none."""
  ages = [float(age) for age in re.findall(r"([\d.]+) s after the events", log)]
  return float(np.mean(ages)) if ages else float("nan")


def plot(results: Sequence[Result], path: str | os.PathLike) -> None:
  """Click rates over time, all runs in one picture."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(9, 4.5))
  for result in results:
    minutes = (np.arange(len(result.counts.shows["ranked"])) + 1) * BUCKET_SECONDS / 60
    last = int(result.end // BUCKET_SECONDS)
    rates = np.where(result.counts.shows["ranked"] > 0, result.counts.smooth("ranked"), np.nan)
    axes.plot(minutes[:last], 100 * rates[:last], label=f"ranked, deltas {result.name}")
  axes.plot(
    minutes[:last], 100 * results[-1].counts.smooth("random")[:last], color="gray", label="random"
  )
  best = _divide(
    sum(results[-1].counts.perfect[kind] for kind in _KINDS),
    sum(results[-1].counts.shows[kind] for kind in _KINDS),
  )
  axes.plot(minutes[:last], 100 * best[:last], color="gray", linestyle=":", label="best possible")
  axes.axvline(results[-1].change / 60, color="black", linewidth=0.8)
  axes.annotate(
    "taste changes",
    (results[-1].change / 60, axes.get_ylim()[1]),
    ha="right",
    va="top",
    rotation=90,
  )
  axes.set(xlabel="minutes", ylabel="clicks per 100 shows (half a minute's mean)", ylim=(0, None))
  axes.legend(loc="upper right")
  figure.tight_layout()
  figure.savefig(path, dpi=120)


def _divide(numbers: Any, by: Any) -> Any:
  with np.errstate(invalid="ignore", divide="ignore"):
    return np.divide(numbers, by)
