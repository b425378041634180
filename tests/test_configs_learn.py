"""The configs of MovieLens learn on a little data in its format."""

import numpy as np
import pytest

from tests.test_configs import MOVIES, USERS, train

_DAY = 86_400


def write_ratings(folder, per_day=1200, days=3):
  """Every user loves the first third of the movies, likes the second, and dislikes the rest.

  One rating in five is by chance.
  """
  rng = np.random.default_rng(0)
  lines = []
  for at in range(per_day * days):
    user, movie = rng.integers(1, 21), rng.integers(1, 31)
    rating = rng.integers(1, 6) if rng.random() < 0.2 else (5, 4, 2)[(movie - 1) // 10]
    time = 1_000_000_000 // _DAY * _DAY + at * _DAY // per_day
    lines.append(f"{user}::{movie}::{rating}::{time}\n")
  (folder / "ratings.dat").write_text("".join(lines))
  (folder / "users.dat").write_text(USERS, "latin-1")
  (folder / "movies.dat").write_text(MOVIES, "latin-1")


@pytest.fixture(name="ratings", scope="module")
def _ratings(tmp_path_factory):
  folder = tmp_path_factory.mktemp("ml-1m")
  write_ratings(folder)
  return folder


@pytest.fixture(autouse=True)
def _own_cache(ratings, monkeypatch):
  monkeypatch.setenv("HOME", str(ratings))


def last_day(config, ratings, file, name):
  """The scores of the third day, before it was trained on, and the summary."""
  model = [f"--config.model.file=models/{file}.py", f"--config.model.name={name}"]
  small = ["--config.batch_size=50", "--config.dense_optimizer.learning_rate=0.01"]
  summary = train(config, f"--config.data.folder={ratings}", *model, *small)
  day, scores = summary.days[-1]
  assert len(summary.days) == 3 and day.records == 1200
  return scores, summary


@pytest.mark.parametrize("file, name", [("mmoe", "MMoE"), ("ple", "PLE"), ("esmm", "ESMM")])
def test_models_of_two_tasks(file, name, ratings):
  scores, summary = last_day("movielens_tasks", ratings, file, name)
  # An output without labels, as ESMM's cvr, is not scored.
  assert list(scores) == ["like", "love"]
  # Without the noise both would be 1.
  assert scores["like"].auc > 0.8 and scores["love"].auc > 0.8
  assert summary.text().count("love ") == 4
  # Rows count the likes.
  likes = np.mean([rating in "45" for rating in _ratings_of(ratings)])
  assert summary.table["click"] / summary.table["show"] == pytest.approx(likes)


def _ratings_of(folder):
  return [line.split("::")[2] for line in (folder / "ratings.dat").read_text().splitlines()]


def test_a_model_of_crosses(ratings):
  scores, _ = last_day("movielens", ratings, "xdeepfm", "XDeepFM")
  assert scores.auc > 0.8
