"""How late actions come, and what each window costs: `tfps join --report`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tqdm

from tfps.errors import ConfigError
from tfps.join import settings as settings_lib
from tfps.join.batches import action_keys, no_actions
from tfps.join.files import FolderLog
from tfps.join.keys import Keys
from tfps.join.lines import Records
from tfps.join.records import Decoded, Decoder

WINDOWS = {"1 min": 60, "5 min": 300, "15 min": 900, "1 h": 3600, "6 h": 21600, "24 h": 86400}


class Window(NamedTuple):
  """The worth of a window for one kind of action.

  arrived: the share of the actions that come within it.
  false_negatives: of the samples that it would call negative, the share whose action comes later.
  delay: seconds from the show to the sample, at least: the window.
  """

  seconds: float
  arrived: float
  false_negatives: float
  delay: float


class Delays(NamedTuple):
  """Delays of one kind of action: sorted seconds from the show to the first action after it."""

  seconds: np.ndarray
  shows: int  # feature records in all
  unmatched: int  # actions of no feature record in the logs
  newest: float  # seconds from the newest show to the newest action: what the logs can tell at most

  def window(self, seconds: float) -> Window:
    within = int(np.searchsorted(self.seconds, seconds, side="right"))
    later = len(self.seconds) - within
    negatives = self.shows - within
    return Window(seconds, within / max(1, len(self.seconds)), later / max(1, negatives), seconds)


def delays(config: Any) -> dict[str, Delays]:
  """{kind of action: Delays}, of all that the logs' folders hold now.

  It holds some 30 bytes in memory for each record of both logs; give it some days, not all.
  """
  settings = settings_lib.of_config(config)
  decoder = Decoder(config, settings)
  all_keys, all_times, all_actions = [], [], []
  with tqdm.tqdm(unit=" records", desc="report", disable=None) as bar:
    for decoded in _all(config, "features", decoder, decoder.shows, bar):
      all_keys.append(decoded.batch)
      all_times.append(decoded.times)
    for decoded in _all(config, "actions", decoder, decoder.actions, bar):
      all_actions.append(decoded.batch)
  if not sum(map(len, all_times)):
    raise ConfigError("The feature log is empty; a report needs some hours of both logs.")
  keys = Keys(*(np.concatenate(parts) for parts in zip(*all_keys)))
  hashes, first = np.unique(keys.hash, return_index=True)
  times = np.concatenate(all_times)[first]
  actions = np.concatenate(all_actions) if all_actions else no_actions()
  place = np.minimum(np.searchsorted(hashes, action_keys(actions).hash), len(hashes) - 1)
  known = hashes[place] == actions["hash"]
  delay = (actions["time"] - times[place]) / 1000
  known &= delay >= -settings.skew_ms / 1000
  newest = (actions["time"].max() - times.min()) / 1000 if len(actions) else 0.0
  made = {}
  for number, kind in enumerate(settings.actions):
    rows = np.flatnonzero((actions["kind"] == number) & known)
    rows = rows[np.lexsort((delay[rows], place[rows]))]
    firsts = rows[np.concatenate([[True], np.diff(place[rows]) > 0])] if len(rows) else rows
    unmatched = int(np.count_nonzero((actions["kind"] == number) & ~known))
    made[kind] = Delays(np.sort(np.maximum(delay[firsts], 0)), len(hashes), unmatched, newest)
  return made


def run(config: Any, plot: str | None = None, as_json: bool = False) -> None:
  """Prints the report, and draws it where `plot` names a file."""
  of_kinds = delays(config)
  if as_json:
    rows = {
      kind: {name: found.window(seconds)._asdict() for name, seconds in WINDOWS.items()}
      for kind, found in of_kinds.items()
    }
    print(json.dumps(rows, indent=2))
  else:
    print(text(of_kinds))
  if plot:
    draw(of_kinds, plot)


def text(of_kinds: Mapping[str, Delays]) -> str:
  """The report as a table for each kind of action."""
  lines = []
  for kind, found in of_kinds.items():
    share = len(found.seconds) / found.shows
    lines.append(
      f"{kind}: {len(found.seconds):,} of {found.shows:,} shows ({share:.2%}); actions without a "
      f"show: {found.unmatched:,}"
    )
    if not len(found.seconds):
      lines += ["  none came", ""]
      continue
    middle, most = np.percentile(found.seconds, [50, 90])
    lines.append(
      f"  half of them come within {_seconds(middle)}, nine in ten within {_seconds(most)}"
    )
    lines.append(
      "  "
      f"{'window':>8}{'arrived':>10}{'called negative':>18}{'of the negatives':>18}"
      f"{'samples come':>16}"
    )
    for name, seconds in WINDOWS.items():
      window = found.window(seconds)
      note = "  (the logs are shorter)" if seconds > found.newest else ""
      lines.append(
        "  "
        f"{name:>8}{window.arrived:>10.2%}{1 - window.arrived:>18.2%}"
        f"{window.false_negatives:>18.3%}{_seconds(window.delay) + ' late':>16}{note}"
      )
    lines.append("")
  lines.append(
    "called negative: the share of the actions that come after the window; of the negatives: the "
    "share that is wrong."
  )
  lines.append(
    'With config.policy = "early" samples come at once, and the action\'s share that arrives '
    "within the window is made good."
  )
  return "\n".join(lines)


def draw(of_kinds: Mapping[str, Delays], path: str) -> None:
  """Draws the share arrived by seconds since the show, and the false negatives of each window."""
  try:
    import matplotlib
  except ImportError as error:
    raise ConfigError(
      "A plot needs matplotlib, which is not installed: pip install 'tfps[join]'."
    ) from error
  matplotlib.use("agg")
  from matplotlib import pyplot as plt

  seconds = np.geomspace(1, WINDOWS["24 h"], 200)
  figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
  for kind, found in of_kinds.items():
    windows = [found.window(value) for value in seconds]
    left.plot(seconds, [window.arrived for window in windows], label=kind)
    right.plot(seconds, [window.false_negatives for window in windows], label=kind)
  left.set(
    title="Actions that have arrived", xlabel="since the show", ylabel="share", ylim=(0, 1.02)
  )
  right.set(
    title="What a window costs",
    xlabel="window: how much later samples come",
    ylabel="negatives that are wrong",
    ylim=0,
  )
  for axes in (left, right):
    axes.set_xscale("log")
    axes.set_xticks(list(WINDOWS.values()), list(WINDOWS), rotation=45)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
  try:
    figure.savefig(path, dpi=120)
  except ValueError as error:
    raise ConfigError(f"{path} cannot be drawn: {str(error).splitlines()[0]}") from error
  finally:
    plt.close(figure)


def _all(
  config: Any, log: str, decoder: Decoder, decode: Callable[[Records], Decoded], bar: tqdm.tqdm
) -> Iterator[Decoded]:
  if config[log].topic:
    raise ConfigError(f"A report reads folders; config.{log} is a topic.")
  files = FolderLog(config, log, {}, {}, {}, decoder, once=True)
  while (records := files.poll(config.batch_bytes)) is not None:
    bar.update(len(records))
    decoded = decode(records)
    files.came(decoded)
    yield decoded


def _seconds(value: float) -> str:
  for unit, size in (("h", 3600), ("min", 60)):
    if value >= size:
      return f"{value / size:,.3g} {unit}"
  return f"{value:,.3g} s"
