"""Folders of a stream: each sample of a file is in a ticket or left out, or the file is refused."""

import json
import shutil
import struct

import tensorflow as tf

import tfps
from tests import streams
from tests.fuzz import mutate, reading
from tfps.cluster import failures
from tfps.data import bad_records
from tfps.training import feed, position
from tfps.training import tickets as tickets_lib

_NAMES = ("a", "b", "c", "é", "x y", "-", "x" * 200, "%s", "{}", "a.b")
_TIMES = (-1, 0, 1, 2**62, 2**63 - 1, -(2**63), 253_370_764_799_999, 253_370_764_800_000)

EXPECTED = reading.RefusedError


def make(folder, note):
  arrived = folder / "samples"
  readers = [_Reader(arrived, on_bad_record) for on_bad_record in ("skip", "fail")]

  def one(rng):
    shutil.rmtree(arrived, ignore_errors=True)
    good, told = {}, []
    for name in rng.sample(_NAMES, rng.randrange(1, 4)):
      path = arrived / f"{name}.tfrecord"
      is_good, content = _file(rng, path)
      told.append(f"{path.name} {content!r}")
      if is_good:
        good[str(path)] = content.count(b"user")
    cut = rng.randrange(8)
    change = rng.choice((None, None, "", "gone")) if cut else None
    note(f"go on at {cut}, {change}\n" + "\n".join(told)[:20000])
    reader = rng.choice(readers)
    try:
      reader.run(good, cut, lambda path: _change(rng, path, change))
    except (ValueError, OSError, tf.errors.OpError) as error:
      sentence = failures.explain(error)
      assert str(arrived) in sentence, f"{type(error).__name__}: {sentence}"
      raise reading.RefusedError(sentence) from error

  return one


class _Reader:
  """Reads the stream as a run does, and goes on somewhere in it as one that was restored."""

  def __init__(self, folder, on_bad_record):
    self._source = tfps.data.stream(
      str(folder), streams.parse, day_seconds=100, past_samples=2, stop_after_idle=1e-9,
      batch_size=4,
      batches_per_ticket=2, on_bad_record=on_bad_record,
    )  # fmt: skip

    def read(ticket):
      return reading.read_all(self._source.reading(ticket))

    self._read = tickets_lib.scoring_function(read)

  def run(self, good, cut, change):
    """Trains all; `good` says how many samples there are of each file that is as it was."""
    seen, resumed = self._days(None, cut)
    if resumed is not None:
      changed = change(seen[-1].path)
      good = {path: count for path, count in good.items() if path != changed}
      seen += self._days(resumed, None)[0]
    assert [ticket.sequence for ticket in seen] == list(range(len(seen)))
    for path, count in good.items():
      found = sum(ticket.records for ticket in seen if ticket.path == path)
      assert found == count, f"{path} has {count} samples, and {found} were trained"

  def _days(self, resumed, stop):
    """Reads on from `resumed`: (all days' tickets, None), or (some tickets, the position there)."""
    skipped, seen = bad_records.SkippedRecords(self._source), []
    for day in feed.days(self._source, 0, resumed):
      at = day.begins_at
      while not day.is_over:
        for ticket, (examples, of_ticket) in self._trained(day):
          assert examples + of_ticket.counts.sum() == ticket.records
          skipped.add_ticket(ticket, of_ticket)
          seen.append(ticket)
          at = at.after(ticket)
          if len(seen) == stop:
            return seen, _restored(day.reached(at))
        if not day.is_over and not day.wait():
          return seen, None
    return seen, None

  def _trained(self, tickets):
    return tickets_lib.scored(
      self._read, tickets, tf.distribute.get_strategy(), self._source.explain
    )


def _restored(at):
  """A position as a checkpoint has it."""
  return position.Position(**json.loads(json.dumps(at.as_dict())))


def _file(rng, path):
  """Writes a file of samples, most of them changed.

  Returns (whether it is none of these, its bytes).
  """
  path.parent.mkdir(exist_ok=True)
  kind = rng.randrange(5)
  if kind == 0 and rng.random() < 0.1:
    path.mkdir()
    return False, b"a folder"
  begin, count = 1e9 + rng.choice((0, 40, 90, 500)), rng.randrange(25)
  records = [streams.example(i, int(1000 * (begin + 2 * i))) for i in range(count)]
  if kind == 1:
    for _ in range(rng.randrange(1, 4)):
      records.insert(rng.randrange(len(records) + 1), _strange(rng))
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in records:
      writer.write(record)
  if kind >= 3:
    path.write_bytes(mutate.data(rng, path.read_bytes()))
  return kind in (0, 2), path.read_bytes()


def _strange(rng):
  """A whole record that is no good sample."""
  kind = rng.randrange(4)
  good = streams.example(rng.choice(mutate.NUMBERS[:9]), 10**12)
  if kind == 0:
    return mutate.data(rng, good)
  if kind == 1:
    return streams.example(1, rng.choice(_TIMES))
  if kind == 2:
    return rng.randbytes(rng.choice((0, 1, 50)))
  example = tf.train.Example.FromString(good)
  feature = example.features.feature[rng.choice(("time", "user", "label", "item"))]
  values = rng.choice(((), (1, 2), (-1,), (2**63 - 1,)))
  feature.int64_list.value[:] = values
  if not values and rng.random() < 0.5:
    feature.float_list.value.append(struct.unpack("<f", rng.randbytes(4))[0])
  return example.SerializeToString()


def _change(rng, path, how):
  """What becomes of a file while it is read: nothing (None), other bytes, or it is gone.

  Returns its path if something.
  """
  if how is None:
    return None
  with open(path, "rb") as file:
    content = file.read()
  if how == "gone":
    tf.io.gfile.remove(path)
  else:
    with open(path, "wb") as file:
      file.write(mutate.data(rng, content))
  return path
