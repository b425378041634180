"""MovieTweetings and MovieLens 1M as published, made click data: day after day, by timestamp."""

from __future__ import annotations

import collections
import contextlib
import datetime
import difflib
import hashlib
import json
import os
import pathlib
import re
import tempfile
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfps.data.bad_records import SkippedInIndex
from tfps.data.file_days import Part
from tfps.data.file_source import FileSource
from tfps.data.raw_inputs import RawInputs
from tfps.errors import BadRecordError
from tfps.table.feasigns import feasign

if TYPE_CHECKING:
  from tfps.data.parsing import Parse
  from tfps.data.ticket import Day

_FORMAT = 3  # of the prepared files: change it whenever they do
_SECONDS_PER_DAY = 86_400
_MULTI_VALUED = ("genres",)
_HISTORY = "history"
_HISTORY_LENGTH = 20
_SHARE = types.MappingProxyType({_HISTORY: "movie_id"})
_CROSS = "_x_"
_NUMBER = re.compile(r"\d+(\.\d+)?")


class _DataSet(NamedTuple):
  name: str
  published: str
  encoding: str
  click_rating: int  # a rating of at least this is the click
  user_columns: tuple[str, ...]  # of users.dat after the id; no users.dat when empty
  history: int = 0  # how many movies a user's history has at most; 0: no such column

  @property
  def files(self) -> tuple[str, ...]:
    return ("ratings.dat", "movies.dat") + (("users.dat",) if self.user_columns else ())

  @property
  def columns(self) -> tuple[str, ...]:
    """The columns of the prepared file."""
    history = (_HISTORY,) if self.history else ()
    return ("user_id", "movie_id", "rating", "year", "genres", *self.user_columns, *history)

  @property
  def features(self) -> tuple[str, ...]:
    """The names that a slot, or one side of a cross, may have."""
    return ("user_id", "movie_id", "year", "decade", "genres", "genre1", *self.user_columns)


_MOVIETWEETINGS = _DataSet("movietweetings", "github.com/sidooms/MovieTweetings", "utf-8", 8, ())
_MOVIELENS = _DataSet(
  "movielens",
  "grouplens.org/datasets/movielens/1m",
  "latin-1",
  4,
  ("gender", "age", "occupation", "zip"),
)


def movietweetings(
  folder: str | os.PathLike,
  *,
  slots: Sequence[str] = ("user_id", "movie_id", "year", "decade", "genres"),
  labels: Mapping[str, int] | None = None,
  work_dir: str | os.PathLike | None = None,
  share: Mapping[str, str] = _SHARE,
  **cutting: Any,
) -> FileSource:
  r"""Makes a source of MovieTweetings, by UTC days; a rating of 8 or more (of 10) is the click.

  The folder holds `ratings.dat` and `movies.dat` as published. They are sorted by user, so the
  first call writes them day by day, in the order of their timestamps, into a cache folder, where
  later calls find them. On a cluster this folder must be one that every worker sees.

  Batches are (x, y): x = {slot: int64 feasigns [batch], and [batch, k] with padding 0 where genres
  take part}, y = float32 [batch, 1]. What is not known of a movie or user is a value of its own,
  and no genres are padding. x always has "user_id", to group by.

  The slot "history" is int64 [batch, k]: the last 20 movies, the latest last, that the user rated 8
  or more before the second of this rating. Its feasigns are those of "movie_id".

  Args:
    folder: where the published files are.
    slots: which of user_id, movie_id, year, decade, genres, genre1 (the first) and history are in
      x, and crosses of them, but for the history, such as "user_id_x_genres".
    labels: {name: the least rating that is a 1}, for y = {name: float32 [batch, 1]}. None: the
      click alone, without a name.
    work_dir: the folder for caches, by default ~/.cache/tfps.
    share: {slot: the slot whose feasigns its values are}, as `tfps.Embedding` reads it; {}: each
      slot's are its own.
    **cutting: days, batch_size, batches_per_ticket, shuffle, seed, on_bad_record, max_bad_records,
      as in `tfps.data.source`.

  Raises:
    FileNotFoundError: a file is missing; the message says where the data set is published.
    BadRecordError: a line is not as published, unless on_bad_record is "skip".
    ValueError: a slot is unknown.

  Examples:
    >>> os.mkdir("movietweetings")
    >>> with open("movietweetings/ratings.dat", "w") as file:
    ...   _ = file.write("1::0110912::9::1381620027\n2::0110912::5::1381706427\n")
    >>> with open("movietweetings/movies.dat", "w") as file:
    ...   _ = file.write("0110912::Pulp Fiction (1994)::Crime|Drama\n")
    >>> tweets = tfps.data.movietweetings(
    ...   "movietweetings", slots=["user_id", "movie_id", "user_id_x_genres"], work_dir="cache"
    ... )
    >>> [(day.name, day.records) for day in tweets.days()]
    [('2013-10-12', 1), ('2013-10-13', 1)]
  """
  return _source(_MOVIETWEETINGS, folder, slots, labels, work_dir, share, **cutting)


def movielens(
  folder: str | os.PathLike,
  *,
  slots: Sequence[str] = (
    "user_id",
    "movie_id",
    "year",
    "decade",
    "genres",
    "gender",
    "age",
    "occupation",
    "zip",
  ),
  labels: Mapping[str, int] | None = None,
  work_dir: str | os.PathLike | None = None,
  share: Mapping[str, str] = _SHARE,
  **cutting: Any,
) -> FileSource:
  r"""Makes a source of MovieLens 1M, by UTC days; a rating of 4 or more (of 5) is the click.

  As `movietweetings`, with `users.dat` too: gender, age, occupation and zip are further slots and
  sides of crosses, such as "gender_x_age", "age_x_genre1" and "occupation_x_genres". The history
  has movies that were rated 4 or more.

  Examples:
    >>> os.mkdir("ml-1m")
    >>> with open("ml-1m/ratings.dat", "w") as file:
    ...   _ = file.write("1::1193::5::978300760\n")
    >>> with open("ml-1m/movies.dat", "w") as file:
    ...   _ = file.write("1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n")
    >>> with open("ml-1m/users.dat", "w") as file:
    ...   _ = file.write("1::F::1::10::48067\n")
    >>> ratings = tfps.data.movielens("ml-1m", slots=["user_id", "gender_x_age"], work_dir="cache")
    >>> [(day.name, day.records) for day in ratings.days()]
    [('2000-12-31', 1)]
  """
  return _source(_MOVIELENS, folder, slots, labels, work_dir, share, **cutting)


def _source(
  data_set: _DataSet,
  folder: str | os.PathLike,
  slots: Sequence[str],
  labels: Mapping[str, int] | None,
  work_dir: str | os.PathLike | None,
  share: Mapping[str, str],
  *,
  days: Sequence[str] | None = None,
  **cutting: Any,
) -> FileSource:
  slots = _checked_slots(data_set, slots)
  if _HISTORY in slots:
    data_set = data_set._replace(history=_HISTORY_LENGTH)
  prepared = _prepare(data_set, pathlib.Path(folder), work_dir)
  table = str(prepared / "ratings.tsv")
  calendar = {
    name: [Part(table, begin, end)]
    for name, begin, end in json.loads((prepared / "days.json").read_text())
  }
  bad = [SkippedInIndex(*fields) for fields in json.loads((prepared / "bad.json").read_text())]
  if bad and cutting.get("on_bad_record", "fail") == "fail":
    raise BadRecordError(
      f"{bad[0].place}: {bad[0].detail}; fix the line, or set on_bad_record to 'skip'."
    )
  if days is not None:
    unknown = [name for name in days if name not in calendar]
    if unknown:
      first, last = min(calendar, default="no day"), max(calendar, default="no day")
      raise ValueError(
        f"days names {unknown[0]!r}, but {data_set.name} goes from {first} to {last}, "
        "without empty days."
      )
    calendar = {name: parts for name, parts in calendar.items() if name in set(days)}

  def split(lines: tf.Tensor) -> dict[str, tf.Tensor]:
    defaults = [[0.0] if name == "rating" else [""] for name in data_set.columns]
    fields = tf.io.decode_csv(lines, defaults, field_delim="\t", use_quote_delim=False)
    return dict(zip(data_set.columns, fields))

  def parse(lines: tf.Tensor) -> tuple[dict[str, tf.Tensor], Any]:
    columns = split(lines)
    label = lambda least: tf.cast(columns["rating"] >= least, tf.float32)[:, tf.newaxis]
    if labels is None:
      return features(columns), label(data_set.click_rating)
    return features(columns), {name: label(least) for name, least in labels.items()}

  def features(columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    columns = dict(columns)
    columns["decade"] = tf.strings.substr(columns["year"], 0, 3)
    columns["genre1"] = tf.strings.regex_replace(columns["genres"], r"\|.*", "")
    for name in ("genres", _HISTORY) if data_set.history else ("genres",):
      columns[name] = tf.strings.split(columns[name], "|").to_tensor("")
    return {slot: _feasigns(slot, share.get(slot, slot), columns) for slot in slots}

  source = _RatingsSource(calendar, parse, bad, **cutting)
  texts = {name: tf.TensorSpec([None], tf.string) for name in data_set.columns if name != "rating"}
  sample = lambda day, count: source.read_records(split, day, count)
  source.raw_inputs = RawInputs(texts, features, sample)
  return source


class _RatingsSource(FileSource):
  """A source of prepared ratings, whose bad lines were left out then.

  They count with the first day.
  """

  def __init__(
    self,
    calendar: Mapping[str, Sequence[Part]],
    parse: Parse,
    bad: list[SkippedInIndex],
    **cutting: Any,
  ) -> None:
    super().__init__(calendar, parse, **cutting)
    self._bad = bad

  def skipped_in_index(self, day: Day | int | str) -> list[SkippedInIndex]:
    first = self._ordinal(day) == 0
    return super().skipped_in_index(day) + (self._bad if first else [])


def _feasigns(slot: str, owner: str, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
  """int64 [batch] or [batch, k] of a slot that is a column or a cross: feasigns of `owner`."""
  if slot == _HISTORY:
    return feasign(owner, columns[slot], padding="")
  sides = slot.split(_CROSS)
  many = [columns[side] for side in sides if side in _MULTI_VALUED]
  if not many:
    return feasign(owner, tf.strings.join([columns[side] for side in sides], "\t"))
  values = [
    columns[side]
    if side in _MULTI_VALUED
    else tf.broadcast_to(columns[side][:, tf.newaxis], tf.shape(many[0]))
    for side in sides
  ]
  return feasign(owner, tf.where(many[0] == "", "", tf.strings.join(values, "\t")), padding="")


def _checked_slots(data_set: _DataSet, slots: Sequence[str]) -> list[str]:
  """The slots as a list that has user_id, after a look at each name."""
  slots = list(slots)
  for slot in slots:
    if slot == _HISTORY:
      continue
    for side in slot.split(_CROSS):
      if side not in data_set.features:
        near = difflib.get_close_matches(side, data_set.features, 1, 0.5)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
          f"slots has {slot!r}, but {data_set.name} has no {side!r}{hint}; it has "
          f"{', '.join(data_set.features)}, crosses of these such as 'user_id{_CROSS}genres', and "
          f"{_HISTORY!r}."
        )
  return slots if "user_id" in slots else ["user_id", *slots]


def _prepare(
  data_set: _DataSet, folder: pathlib.Path, work_dir: str | os.PathLike | None
) -> pathlib.Path:
  """The folder of the prepared files, made if it is not there: complete, or not there."""
  contents = {}
  for name in data_set.files:
    try:
      contents[name] = (folder / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
      raise FileNotFoundError(
        f"{folder} has no {name}; download {data_set.name} from "
        f"{data_set.published} and unpack it there."
      ) from None
  fingerprint = hashlib.blake2b(repr((_FORMAT, data_set)).encode(), digest_size=8)
  for content in contents.values():
    fingerprint.update(hashlib.blake2b(content).digest())
  root = pathlib.Path(work_dir) if work_dir else pathlib.Path("~/.cache/tfps").expanduser()
  prepared = root / f"{data_set.name}-{fingerprint.hexdigest()}"
  if prepared.is_dir():
    return prepared
  root.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    dir=root, prefix=f"{data_set.name}-", ignore_cleanup_errors=True
  ) as scratch:
    unfinished = pathlib.Path(scratch) / "prepared"
    unfinished.mkdir()
    _write_days(data_set, folder, contents, unfinished)
    with contextlib.suppress(OSError):  # another process was as quick, and its files are the same
      os.rename(unfinished, prepared)
  return prepared


def _write_days(
  data_set: _DataSet, folder: pathlib.Path, contents: Mapping[str, bytes], prepared: pathlib.Path
) -> None:
  """Writes ratings.tsv, sorted by time and joined, and days.json, each day's byte range."""
  bad = _BadLines(folder)

  def lines(name: str, fields: int) -> Iterator[tuple[int, list[str]]]:
    return _lines(name, contents[name].decode(data_set.encoding, "replace"), fields, bad)

  movies = {
    movie: f"{_year(title)}\t{genres}" for _, (movie, title, genres) in lines("movies.dat", 3)
  }
  users = {}
  if data_set.user_columns:
    users = {
      user: "\t" + "\t".join(known)
      for _, (user, *known) in lines("users.dat", 1 + len(data_set.user_columns))
    }
  unknown_movie, unknown_user = "\t", "\t" * len(data_set.user_columns)
  rows, times = [], []
  progress = tqdm(
    lines("ratings.dat", 4),
    desc=f"preparing {data_set.name}",
    unit=" ratings",
    delay=2,
    leave=False,
  )
  for number, (user, movie, rating, time) in progress:
    if not _is_rating(rating, time):
      detail = f"rating {rating!r} and time {time!r} must be numbers"
      bad.add("ratings.dat", number, "a rating or its time is no number", detail)
      continue
    times.append(int(time))
    rows.append(
      f"{user}\t{movie}\t{rating}\t{movies.get(movie, unknown_movie)}"
      f"{users.get(user, unknown_user)}\n".encode()
    )
  seconds = np.array(times, np.int64)
  order = np.argsort(seconds, kind="stable")
  if data_set.history:
    _add_histories(data_set, rows, times, order.tolist())
  ends = np.cumsum([len(rows[at]) for at in order])
  (prepared / "ratings.tsv").write_bytes(b"".join(rows[at] for at in order))
  dates, counts = np.unique(seconds // _SECONDS_PER_DAY, return_counts=True)
  day_ends = [int(ends[last]) for last in np.cumsum(counts) - 1]
  names = [str(datetime.date(1970, 1, 1) + datetime.timedelta(days=int(date))) for date in dates]
  days = list(zip(names, [0, *day_ends], day_ends))
  (prepared / "days.json").write_text(json.dumps(days))
  (prepared / "bad.json").write_text(json.dumps(bad.skipped()))


def _add_histories(
  data_set: _DataSet, rows: list[bytes], times: Sequence[int], order: Sequence[int]
) -> None:
  """Ends each row with the movies that its user rated as a click in earlier seconds."""
  histories: dict[bytes, collections.deque[bytes]] = {}
  of_this_second: list[tuple[bytes, bytes]] = []
  second = None
  for at in order:
    if times[at] != second:
      for user, movie in of_this_second:
        histories.setdefault(user, collections.deque(maxlen=data_set.history)).append(movie)
      second, of_this_second = times[at], []
    user, movie, rating, _ = rows[at].split(b"\t", 3)
    if float(rating) >= data_set.click_rating:
      of_this_second.append((user, movie))
    rows[at] = rows[at][:-1] + b"\t" + b"|".join(histories.get(user, ())) + b"\n"


class _BadLines:
  """The lines that are left out, by reason, with the first of each."""

  def __init__(self, folder: pathlib.Path) -> None:
    self._folder = folder
    self._found: dict[str, tuple[int, str, str]] = {}

  def add(self, name: str, number: int, reason: str, detail: str) -> None:
    new = (0, f"{self._folder / name}, line {number}", detail)
    count, place, first = self._found.get(reason, new)
    self._found[reason] = (count + 1, place, first)

  def skipped(self) -> list[SkippedInIndex]:
    return [SkippedInIndex(reason, *rest) for reason, rest in self._found.items()]


def _is_rating(rating: str, time: str) -> bool:
  try:
    day = datetime.date(1970, 1, 1) + datetime.timedelta(seconds=int(time))
  except (ValueError, OverflowError):
    return False
  return day is not None and _NUMBER.fullmatch(rating) is not None


def _lines(name: str, text: str, fields: int, bad: _BadLines) -> Iterator[tuple[int, list[str]]]:
  """Yields (line number, list of fields) of a file with "::" between the fields."""
  for number, line in enumerate(text.split("\n"), 1):
    line = line.rstrip("\r")
    if not line:
      continue
    found = line.split("::")
    if len(found) == fields and "\t" not in line:
      yield number, found
      continue
    wanted = f"{fields} fields with '::' between them and no tab"
    bad.add(name, number, f"a line of {name} has not {wanted}", f"expected {wanted}, not {line!r}")


def _year(title: str) -> str:
  match = re.search(r"\((\d{4})\)\s*$", title)
  return match[1] if match else ""
