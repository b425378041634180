"""The online example: its world, its users, and what it makes of a run."""

import json
import time

import numpy as np
import pytest

from examples.online import report, traffic, world
from examples.online.circle import Circle
from tests.patience import PATIENCE


def test_taste_changes_to_the_hot_topic():
  one = world.World(3)
  users, items = np.repeat(np.arange(50), world.ITEMS), np.tile(np.arange(world.ITEMS), 50)
  is_hot = one.topics[items] == world.HOT
  before = one.click_probability(users, items)
  one.changed = True
  after = one.click_probability(users, items)
  assert before[is_hot].mean() < 0.1 < 0.3 < after[is_hot].mean()
  liked = before > 0.25
  assert 0.05 < liked.mean() < 0.25 and after[liked].mean() < 0.1


def test_users_click_on_what_is_ranked_well_and_all_is_logged(tmp_path, monkeypatch):
  monkeypatch.setattr(traffic, "_TICK_SECONDS", 0.01)
  monkeypatch.setattr(traffic, "_MEAN_CLICK_SECONDS", 0.001)
  one = world.World(3)
  # A server that knows the world.
  rank = lambda features: one.click_probability(
    *(np.array([int(text[1:]) for text in features[name]]) for name in ("user_id", "item_id"))
  )
  counts = report.Counts(10)
  users = traffic.Traffic(one, tmp_path, rank, 1000, 0.5, seed=1)
  while counts.shows["ranked"].sum() < 2000 or counts.shows["random"].sum() < 2000:
    users.run(0.2, lambda *seen: counts.add(1, *seen))
  ranked, random = (counts.rate(kind, 0, 10) for kind in ("ranked", "random"))
  assert ranked == pytest.approx(counts.best(0, 10), abs=0.1) and ranked > 2 * random
  logs = {
    name: [
      json.loads(line)
      for path in sorted((tmp_path / name).glob("*.jsonl"))
      for line in path.read_text().splitlines()
    ]
    for name in ("features", "actions")
  }
  shown = {(record["request_id"], record["item_id"]): record for record in logs["features"]}
  assert len(shown) == len(logs["features"]) == sum(shows.sum() for shows in counts.shows.values())
  clicks = sum(clicks.sum() for clicks in counts.clicks.values())
  assert 0.8 * clicks <= len(logs["actions"]) <= clicks
  for click in logs["actions"]:
    assert shown[click["request_id"], click["item_id"]]["time"] <= click["time"]


@pytest.mark.parametrize("dip, minutes", [(1, 4 / 6), (9, 2.0), (60, None)])
def test_minutes_to_recover(dip, minutes):
  """The click rate falls for so many buckets of ten seconds."""
  counts = report.Counts(600)
  for bucket in range(60):
    clicks = 10 if 30 <= bucket < 30 + dip else 40
    counts.add(10 * bucket, "ranked", 100, clicks, 40)
    counts.add(10 * bucket, "random", 100, 8, 40)
  result = report.Result("10s", counts, change=300, end=600)
  assert result.minutes_to_recover == (minutes and pytest.approx(minutes, abs=1e-3))
  assert ("not within the run" in result.line()) == (minutes is None)
  assert "minute  2:  ranked  40.0%   random   8.0%    5.0 times" in report.minute_line(
    counts, 1, False
  )


def test_the_plot_has_every_run(tmp_path):
  counts = report.Counts(60)
  counts.add(1, "ranked", 100, 30, 40)
  results = [report.Result(name, counts, 30, 60) for name in ("10s", "none")]
  report.plot(results, tmp_path / "online.png")
  assert (tmp_path / "online.png").stat().st_size > 10_000


def test_the_circle_closes(tmp_path):
  """Users are shown what was learned from those before them, and deltas keep it up to date."""
  one, counts = world.World(1), report.Counts(60)
  settings = ["--config.export.delta_every_minutes=0.03"]
  deadline = time.monotonic() + PATIENCE
  with Circle(tmp_path, settings, deltas=True) as circle:
    users = traffic.Traffic(one, tmp_path, circle.rank, 40, 0.25, seed=1)
    sync = tmp_path / "sync.log"
    while counts.shows["ranked"].sum() < 200 or "after the events" not in sync.read_text():
      users.run(1, lambda *seen: counts.add(1, *seen))
      circle.check()
      assert time.monotonic() < deadline
  assert counts.shows["random"].sum() > 0
  assert circle.exit_codes["join"] == circle.exit_codes["trainer"] == circle.exit_codes["sync"] == 0
  assert report.seconds_to_served(sync.read_text()) > 8  # The join waits for so long.
