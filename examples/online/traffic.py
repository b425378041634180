"""Users who come, see what the served model ranks highest, and click: what they do is logged."""

from __future__ import annotations

import heapq
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from examples.online.world import ITEMS, USERS

if TYPE_CHECKING:
  from examples.online.world import World

CANDIDATES, SHOWN = 20, 2  # items of a request, and how many of these its user sees
_TICK_SECONDS = 0.5
_FILE_SECONDS = 1.0
_MEAN_CLICK_SECONDS = 2.0  # from the show to the click


class Log:
  """Files of JSON lines in a folder, each there once it is whole."""

  def __init__(self, folder: str | os.PathLike) -> None:
    self._folder = pathlib.Path(folder)
    self._folder.mkdir(parents=True)
    self._lines: list[str] = []
    self._files = 0

  def add(self, record: Mapping[str, Any]) -> None:
    self._lines.append(json.dumps(record))

  def publish(self) -> None:
    """Writes what was added since the last time as a file."""
    if not self._lines:
      return
    name = f"{self._files:08d}.jsonl"
    hidden = self._folder / f".{name}"
    hidden.write_text("\n".join(self._lines) + "\n")
    os.rename(hidden, self._folder / name)
    self._lines, self._files = [], self._files + 1


class Traffic:
  """Requests of random users, some of whom are shown random items to compare with.

  Args:
    world: the `World`.
    folder: where the logs go: `features` and `actions`.
    rank: a function of {feature: texts of n pairs of user and item} that returns float [n], the
      higher the better; None where no model is served yet, so that all is random.
    requests_per_second: how many users come.
    random_share: the part of them who are shown random items.
    seed: of who comes, and what they do.
  """

  def __init__(
    self,
    world: World,
    folder: str | os.PathLike,
    rank: Callable[[dict[str, list[str]]], np.ndarray | None],
    requests_per_second: float,
    random_share: float,
    seed: int,
  ) -> None:
    self._world = world
    self._rank = rank
    self._rate = requests_per_second
    self._random_share = random_share
    self._rng = np.random.default_rng(seed)
    self._features = Log(pathlib.Path(folder, "features"))
    self._actions = Log(pathlib.Path(folder, "actions"))
    self._clicks: list[
      tuple[float, int, dict[str, Any]]
    ] = []  # (when it happens, a number of its own, the action)
    self._requests = 0

  def run(self, seconds: float, seen: Callable[[str, int, int, float], object]) -> None:
    """Lets users come for so long.

    Args:
      seconds: how long.
      seen: called after each tick with (kind, shows, clicks, perfect): "ranked" or "random",
        counts, and the expected clicks of a perfect ranking.
    """
    began = published = time.time()
    ticks = 0
    while (now := time.time()) - began < seconds:
      for kind, shows, clicks, perfect in self._tick(now):
        seen(kind, shows, clicks, perfect)
      while self._clicks and self._clicks[0][0] <= now:
        self._actions.add(heapq.heappop(self._clicks)[-1])
      if now - published >= _FILE_SECONDS:
        self._features.publish()
        self._actions.publish()
        published = now
      ticks += 1
      time.sleep(max(0.0, began + ticks * _TICK_SECONDS - time.time()))
    self._features.publish()
    self._actions.publish()

  def _tick(self, now: float) -> Iterator[tuple[str, int, int, float]]:
    count = max(1, self._rng.poisson(self._rate * _TICK_SECONDS))
    users = self._rng.integers(0, USERS, count)
    items = self._rng.permuted(np.tile(np.arange(ITEMS), (count, 1)), axis=1)[:, :CANDIDATES]
    pairs = np.repeat(users, CANDIDATES), items.ravel()
    truth = self._world.click_probability(*pairs).reshape(items.shape)
    scores = self._rank(self._world.features(*pairs))
    is_random = self._rng.random(count) < self._random_share
    if scores is None:
      is_random[:] = True
      scores = np.zeros(items.shape)
    scores = np.asarray(scores).reshape(items.shape)
    # Candidates are in random order already.
    order = np.where(is_random[:, np.newaxis], 0, scores)
    best = np.argsort(-order, axis=1, kind="stable")[:, :SHOWN]
    chosen = np.take_along_axis(truth, best, axis=1)
    clicked = self._rng.random(chosen.shape) < chosen
    perfect = -np.sort(-truth, axis=1)[:, :SHOWN]
    self._log(now, users, np.take_along_axis(items, best, axis=1), clicked)
    for kind, rows in (("ranked", ~is_random), ("random", is_random)):
      yield kind, chosen[rows].size, int(clicked[rows].sum()), float(perfect[rows].sum())

  def _log(self, now: float, users: np.ndarray, items: np.ndarray, clicked: np.ndarray) -> None:
    delays = self._rng.exponential(_MEAN_CLICK_SECONDS, items.shape)
    for row, user in enumerate(users.tolist()):
      self._requests += 1
      request = {"request_id": f"r{self._requests}", "time": round(now, 3)}
      of_user = self._world.features(np.repeat(user, SHOWN), items[row])
      for column in range(SHOWN):
        features = {name: texts[column] for name, texts in of_user.items()}
        self._features.add({**request, **features})
        if clicked[row, column]:
          when = now + delays[row, column]
          click = {
            **request,
            "item_id": features["item_id"],
            "action": "click",
            "time": round(when, 3),
          }
          heapq.heappush(self._clicks, (when, self._requests * SHOWN + column, click))
