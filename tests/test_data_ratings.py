"""MovieTweetings and MovieLens as published: days, joins, slots, the cache, and bad input."""

import collections
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import tfps.data
from tfps.table.feasigns import feasign

DATA = pathlib.Path(
  os.environ.get("TFPS_DATA") or pathlib.Path(__file__).parents[2] / "shared" / "data"
)
DAY = 86_400

# (user, movie, rating, time), sorted by user as published; days 10, 11 and 13 after 1970-01-01.
RATINGS = [
  ("1", "11", 10, 11 * DAY + 5),
  ("1", "12", 7, 10 * DAY + 9),
  ("1", "13", 8, 13 * DAY),
  ("2", "11", 8, 10 * DAY + 3),
  ("2", "99", 1, 11 * DAY - 1),
  ("3", "12", 3, 10 * DAY + 9),
  ("9", "11", 9, 11 * DAY + 5),
]
IN_ORDER = [3, 1, 5, 4, 0, 6, 2]
MOVIES = {
  "11": ("1994", ["Crime", "Thriller"]),
  "12": ("1895", []),
  "13": ("", ["Drama"]),
  "99": ("", []),
}


@pytest.fixture
def tweets(tmp_path):
  folder = tmp_path / "published"
  folder.mkdir()
  (folder / "ratings.dat").write_text("".join(f"{u}::{m}::{r}::{t}\n" for u, m, r, t in RATINGS))
  (folder / "movies.dat").write_text(
    "11::Pulp Fiction (1994)::Crime|Thriller\n"
    "12::La sortie des usines Lumière (1895)::\n"
    "13::Untitled::Drama\n",
    encoding="utf-8",
  )
  return folder


@pytest.fixture
def lens(tmp_path):
  folder = tmp_path / "lens"
  folder.mkdir()
  (folder / "ratings.dat").write_text("1::11::4::86400\n2::11::3::86401\n3::11::5::86402\n")
  (folder / "movies.dat").write_bytes(
    "11::Misérables, Les (1995)::Drama|Musical\n".encode("latin-1")
  )
  (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072-11\n")
  return folder


def movietweetings(folder, **kwargs):
  return tfps.data.movietweetings(folder, work_dir=folder.parent / "cache", **kwargs)


def read(source):
  batches = [batch for ticket in source.tickets() for batch in source.open(ticket)]
  x = {
    slot: np.concatenate([_widened(x[slot].numpy()) for x, _ in batches]) for slot in batches[0][0]
  }
  return x, np.concatenate([y for _, y in batches])


def _widened(values, width=3):
  return values if values.ndim == 1 else np.pad(values, [(0, 0), (0, width - values.shape[1])])


def test_days_in_the_order_of_time(tweets):
  source = movietweetings(tweets)
  assert source.days() == [
    tfps.data.Day(0, "1970-01-11", 4),
    tfps.data.Day(1, "1970-01-12", 2),
    tfps.data.Day(2, "1970-01-14", 1),
  ]
  x, y = read(source)
  rows = [RATINGS[at] for at in IN_ORDER]
  assert y.dtype == np.float32 and y[:, 0].tolist() == [float(row[2] >= 8) for row in rows]
  assert x["user_id"].tolist() == feasign("user_id", [row[0] for row in rows]).numpy().tolist()
  assert x["movie_id"].tolist() == feasign("movie_id", [row[1] for row in rows]).numpy().tolist()
  years = [MOVIES[row[1]][0] for row in rows]
  assert x["year"].tolist() == feasign("year", years).numpy().tolist()
  assert x["decade"].tolist() == feasign("decade", [year[:3] for year in years]).numpy().tolist()
  genres = [(MOVIES[row[1]][1] + ["", "", ""])[:3] for row in rows]
  assert x["genres"].tolist() == feasign("genres", genres, padding="").numpy().tolist()
  assert (x["genres"] == 0).sum() == sum(row.count("") for row in genres)
  x, y = read(source.day("1970-01-12"))
  assert x["user_id"].tolist() == feasign("user_id", ["1", "9"]).numpy().tolist()


def test_slots_and_crosses(tweets):
  x, _ = read(movietweetings(tweets, slots=["genre1", "user_id_x_genres", "user_id_x_decade"]))
  assert list(x) == ["user_id", "genre1", "user_id_x_genres", "user_id_x_decade"]
  rows = [RATINGS[at] for at in IN_ORDER]
  genres = [MOVIES[row[1]][1] for row in rows]
  assert (
    x["genre1"].tolist() == feasign("genre1", [(of + [""])[0] for of in genres]).numpy().tolist()
  )

  def distinct(pairs, keys):
    """The keys tell the pairs apart, and nothing else."""
    assert len(set(pairs)) == len(set(zip(pairs, keys))) == len(set(keys))

  pairs = [(row[0], genre) for row, of in zip(rows, genres) for genre in of]
  crossed = x["user_id_x_genres"]
  assert (crossed != 0).sum(1).tolist() == [len(of) for of in genres]
  distinct(pairs, crossed[crossed != 0].tolist())
  distinct([(row[0], MOVIES[row[1]][0][:3]) for row in rows], x["user_id_x_decade"].tolist())


def test_history_is_what_the_user_clicked_in_earlier_seconds(tweets):
  times = [(movie, rating, 20 * DAY + 10 * i) for i, (movie, rating) in enumerate(
    [("21", 8), ("22", 7), ("23", 9), ("24", 10)]
  )]  # fmt: skip
  times += [("25", 9, times[-1][2]), ("26", 1, times[-1][2] + 1)]
  lines = [f"5::{movie}::{rating}::{time}\n" for movie, rating, time in times]
  (tweets / "ratings.dat").write_text("6::99::10::0\n" + "".join(reversed(lines)))
  source = movietweetings(tweets, slots=["movie_id", "history"], batch_size=100)
  batches = [x for ticket in source.tickets() for x, _ in source.open(ticket)]
  histories = {
    int(movie): history.numpy().tolist()
    for x in batches
    for movie, history in zip(x["movie_id"], x["history"])
  }
  expected = {
    "99": [], "21": [], "22": ["21"], "23": ["21"], "24": ["21", "23"], "25": ["21", "23"],
  }  # fmt: skip
  for movie, history in expected.items():
    found = histories[int(feasign("movie_id", movie))]
    padded = feasign("movie_id", (history + [""] * 4)[: len(found)], padding="")
    assert found == padded.numpy().tolist()
  # 24 and 25 were rated in the same second; the file, sorted by user, has 25 before 24.
  found = histories[int(feasign("movie_id", "26"))]
  assert sorted(filter(None, found)) == sorted(
    feasign("movie_id", ["21", "23", "24", "25"]).numpy()
  )
  # Beside it, the other slots are as without it.
  without, _ = read(movietweetings(tweets, slots=["movie_id"], batch_size=100))
  assert without["movie_id"].tolist() == list(histories)
  raw = source.raw_inputs
  sample = {name: tf.constant(value) for name, value in raw.sample(0, 100).items()}
  assert set(sample) > set(raw.specs) and raw.features(sample)["history"].shape[0] == 1


def test_several_labels_by_their_least_rating(tweets):
  source = movietweetings(tweets, labels={"click": 8, "love": 10})
  (_, y), *_ = (batch for ticket in source.tickets() for batch in source.open(ticket))
  rows = [RATINGS[at] for at in IN_ORDER][:4]
  assert y["click"].numpy().tolist() == [[float(row[2] >= 8)] for row in rows]
  assert y["love"].numpy().tolist() == [[float(row[2] == 10)] for row in rows]


def test_a_history_ends_with_the_last_20(tweets):
  lines = [f"5::{movie}::9::{20 * DAY + movie}\n" for movie in range(1, 30)]
  (tweets / "ratings.dat").write_text("".join(lines))
  for share, owner in (({}, "movie_id"), ({"share": {}}, "history")):
    source = movietweetings(tweets, slots=["history"], batch_size=100, **share)
    x, _ = next(iter(source.open(next(source.tickets()))))
    expected = feasign(owner, [str(movie) for movie in range(9, 29)]).numpy()
    np.testing.assert_array_equal(x["history"][-1], expected)
  with pytest.raises(ValueError, match="'user_id_x_history', but movietweetings has no 'history'"):
    movietweetings(tweets, slots=["user_id_x_history"])


def test_days_argument(tweets):
  source = movietweetings(tweets, days=["1970-01-12", "1970-01-14"])
  assert [(day.ordinal, day.name, day.records) for day in source.days()] == [
    (0, "1970-01-12", 2),
    (1, "1970-01-14", 1),
  ]
  with pytest.raises(
    ValueError, match="'1970-01-13', but movietweetings goes from 1970-01-11 to 1970-01-14"
  ):
    movietweetings(tweets, days=["1970-01-13"])


def test_movielens(lens, tmp_path):
  slots = [
    "user_id",
    "gender",
    "age",
    "occupation",
    "zip",
    "gender_x_age",
    "age_x_genre1",
    "occupation_x_genres",
    "year",
  ]
  source = tfps.data.movielens(lens, slots=slots, work_dir=tmp_path / "cache", batch_size=2)
  x, y = read(source)
  assert list(x) == slots
  assert y.tolist() == [[1.0], [0.0], [1.0]]
  users = {
    "gender": ["F", "M", ""],
    "age": ["1", "56", ""],
    "occupation": ["10", "16", ""],
    "zip": ["48067", "70072-11", ""],
  }
  for slot, values in users.items():
    assert x[slot].tolist() == feasign(slot, values).numpy().tolist()
  assert x["year"].tolist() == feasign("year", ["1995"] * 3).numpy().tolist()
  assert len(set(x["gender_x_age"])) == len(set(x["age_x_genre1"])) == 3
  assert (x["occupation_x_genres"] != 0).sum() == 6
  assert len(tfps.data.movielens(lens, work_dir=tmp_path / "cache").element_spec[0]) == 9


def test_cache_is_made_once_and_follows_the_inputs(tweets):
  cache = tweets.parent / "cache"
  movietweetings(tweets)
  (made,) = cache.iterdir()
  stamps = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
  assert set(stamps) == {"ratings.tsv", "days.json", "bad.json"}
  movietweetings(tweets)
  assert [path.name for path in cache.iterdir()] == [made.name]
  assert {path.name: path.stat().st_mtime_ns for path in made.iterdir()} == stamps
  with (tweets / "ratings.dat").open("a") as file:
    file.write(f"9::11::9::{14 * DAY}\n")
  assert movietweetings(tweets).records == len(RATINGS) + 1
  assert len(list(cache.iterdir())) == 2


def test_cache_in_the_home_folder(tweets, monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  assert tfps.data.movietweetings(tweets).records == len(RATINGS)
  assert len(list((tmp_path / "home/.cache/tfps").iterdir())) == 1


def test_bad_lines_are_refused_or_skipped_whoever_prepared_the_files(tweets):
  (tweets / "ratings.dat").write_text("1::11::10::x\n1::11\n1::11::10::5\n1::11::10::y\n")
  for _ in range(2):
    with pytest.raises(tfps.data.BadRecordError, match="ratings.dat, line 1: .*; fix the line, or"):
      movietweetings(tweets)
    source = movietweetings(tweets, on_bad_record="skip")
    assert source.records == 1
    found = {bad.reason: (bad.count, bad.place[-6:]) for bad in source.skipped_in_index(0)}
    assert sorted(found.values()) == [(1, "line 2"), (2, "line 1")]


def test_a_failed_preparation_leaves_nothing(tweets, monkeypatch):
  def fail(*args):
    raise OSError("No space left on device")

  monkeypatch.setattr("tfps.data.ratings._write_days", fail)
  with pytest.raises(OSError):
    movietweetings(tweets)
  assert list((tweets.parent / "cache").iterdir()) == []


@pytest.mark.parametrize(
  "file, content, message",
  [
    (
      "ratings.dat",
      "1::11::10::5\n1::11::10\n",
      "ratings.dat, line 2: expected 4 fields with '::'",
    ),
    (
      "ratings.dat",
      "1::11::good::5\n",
      "ratings.dat, line 1: rating 'good' and time '5' must be numbers",
    ),
    (
      "ratings.dat",
      "\n1::11::8::noon\n",
      "ratings.dat, line 2: rating '8' and time 'noon' must be numbers",
    ),
    ("movies.dat", "11::Pulp Fiction (1994)\n", "movies.dat, line 1: expected 3 fields"),
    (
      "movies.dat",
      "11::Pulp\tFiction (1994)::Drama\n",
      "movies.dat, line 1: expected 3 fields .* and no tab",
    ),
  ],
)
def test_bad_lines(tweets, file, content, message):
  (tweets / file).write_text(content)
  with pytest.raises(ValueError, match=message):
    movietweetings(tweets)


def test_missing_data(tmp_path, tweets):
  with pytest.raises(
    FileNotFoundError,
    match="nowhere has no ratings.dat; download .* github.com/sidooms/MovieTweetings",
  ):
    movietweetings(tmp_path / "nowhere")
  with pytest.raises(
    FileNotFoundError, match="published has no users.dat; .* grouplens.org/datasets/movielens/1m"
  ):
    tfps.data.movielens(tweets)


def test_unknown_slots(tweets):
  with pytest.raises(
    ValueError,
    match=r"slots has 'movie', but movietweetings has no 'movie' \(did you mean 'movie_id'",
  ):
    movietweetings(tweets, slots=["movie"])
  with pytest.raises(
    ValueError, match="slots has 'user_id_x_gender', but movietweetings has no 'gender'"
  ):
    movietweetings(tweets, slots=["user_id_x_gender"])


def published(name, make, records, days, click_rating, tmp_path):
  """Every published row once, in its day."""
  source = make(DATA / name, work_dir=tmp_path, batch_size=4096)
  assert len(source.days()) == days and source.records == records
  per_day, users, clicks = collections.Counter(), collections.Counter(), 0
  for line in (DATA / name / "ratings.dat").open():
    user, _, rating, time = line.split("::")
    per_day[int(time) // DAY] += 1
    users[user] += 1
    clicks += int(rating) >= click_rating
  assert [day.records for day in source.days()] == [per_day[day] for day in sorted(per_day)]
  keys = feasign("user_id", list(users)).numpy().tolist()
  left = collections.Counter(dict(zip(keys, users.values())))
  read_in_graph = tf.function(
    lambda *ticket: (
      source.open(tfps.data.Ticket(*ticket))
      .map(lambda x, y: (x["user_id"], y))
      .unbatch()
      .batch(records)
      .get_single_element()
    )
  )
  dtypes = (tf.int64, tf.int64, tf.int64, tf.string, tf.int64, tf.int64, tf.int64)
  for ticket in source.tickets():
    user, y = read_in_graph(*(tf.constant(value, dtype) for value, dtype in zip(ticket, dtypes)))
    left.subtract(user.numpy().tolist())
    clicks -= int(tf.reduce_sum(y))
  assert clicks == 0 and set(left.values()) == {0}


if DATA.is_dir():

  def test_published_movietweetings(tmp_path):
    published("movietweetings", tfps.data.movietweetings, 141_695, 252, 8, tmp_path)

  def test_published_movielens(tmp_path):
    published("ml-1m", tfps.data.movielens, 487_650, 872, 4, tmp_path)
