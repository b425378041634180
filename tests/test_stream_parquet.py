"""Streams of Parquet files in folders of partitions that appear while they run."""

import datetime
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import tfps

DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def write(folder, hour, numbers, done=True, part=0):
  """A file of an hour after midnight of 2026-01-01, and its marker."""
  moment = DAY + datetime.timedelta(hours=hour)
  inner = folder / f"dt={moment:%Y-%m-%d}" / f"hour={moment:%H}"
  inner.mkdir(parents=True, exist_ok=True)
  table = pa.table({
    "n": pa.array(numbers, pa.int64()),
    "at": pa.array([moment + datetime.timedelta(seconds=int(n)) for n in numbers]),
    "ms": [int(moment.timestamp() * 1000) + int(n) for n in numbers],
  })  # fmt: skip
  pq.write_table(table, inner / f".part-{part}.parquet", row_group_size=7)
  os.rename(inner / f".part-{part}.parquet", inner / f"part-{part}.parquet")
  if done:
    (inner / "_SUCCESS").touch()


def parse(columns):
  return {"n": columns["n"]}, tf.ones([tf.size(columns["n"]), 1])


def stream(folder, **settings):
  arrivals = tfps.data.Folder(folder, "*.parquet", partitions=True, marker="_SUCCESS")
  settings = {"time": "{dt}T{hour}:00", "batch_size": 4, "batches_per_ticket": 2} | settings
  return tfps.data.stream(arrivals, parse, format="parquet", poll_seconds=0.01, **settings)


def read(source, reader):
  """{day: its numbers} of all that is there now, and the position at the end."""
  found, ordinal, position = {}, 0, None
  source.stop_after_idle = 0.03
  while (day := reader.next_day(ordinal)) is not None:
    ordinal += 1
    numbers = found.setdefault(day.name, [])
    while True:
      ticket = reader.next_ticket()
      if ticket is None:
        if reader.day_is_over or not reader.wait():
          break
        continue
      for x, _ in source.open(ticket):
        numbers += x["n"].numpy().tolist()
      position = reader.cursor_after(ticket)
    if not reader.day_is_over:
      break
  return found, position


@pytest.mark.parametrize("time", ["{dt}T{hour}:00", "at", "ms"])
def test_folders_that_appear_are_days_and_late_ones_are_trained(tmp_path, time):
  write(tmp_path, 1, range(20))
  write(tmp_path, 2, range(20, 30), done=False)
  source = stream(tmp_path, time=time)
  reader = source.read()
  found, position = read(source, reader)
  assert found == {"2026-01-01": [*range(20)]}  # Hour 2 is not complete.
  write(tmp_path, 2, range(20, 30))
  write(tmp_path, 26, range(30, 45))
  reader = source.read(position)
  assert reader.resume_day(0, "2026-01-01").name == "2026-01-01"
  found = {}
  numbers = found["2026-01-01"] = []
  while (ticket := reader.next_ticket()) is not None:
    numbers += [int(n) for x, _ in source.open(ticket) for n in x["n"]]
  assert reader.day_is_over
  write(tmp_path, 3, range(50, 55))  # A late one.
  more, _ = read(source, reader)
  assert found["2026-01-01"] == [*range(20, 39)]
  assert more == {"2026-01-02": [*range(39, 45), *range(50, 55)]}
  assert reader.late == 5 and reader.early == 9


def test_it_trains(tmp_path):
  write(tmp_path, 1, range(30))
  write(tmp_path, 25, range(30, 60))
  source = stream(tmp_path, stop_after_idle=0.1)
  table = tfps.FeasignTable("test", mf_dim=2)

  class Bare(tfps.Model):
    def __init__(self):
      super().__init__()
      self.embedding = tfps.Embedding(table, ["n"])

    def call(self, x):
      return tf.sigmoid(self.embedding(x).lr_logit)

  model = Bare()
  model.compile("adam", "binary_crossentropy")
  model.fit(source, verbose=0)
  assert table.statistics()["show"] == 59  # All but 0, which is padding.


def test_what_does_not_fit_is_refused(tmp_path):
  with pytest.raises(ValueError, match="has no file yet that says which columns there are"):
    stream(tmp_path)
  write(tmp_path, 1, range(5))
  made = stream(tmp_path, time="{day}")
  with pytest.raises(
    ValueError, match="no event time '{day}': its folders' keys are dt=2026-01-01"
  ):
    made.read().next_day(0)
  made = stream(tmp_path, time="x")
  with pytest.raises(ValueError, match="the column 'x' is missing, and must be timestamps"):
    made.read().next_day(0)
  with pytest.raises(ValueError, match="format is 'csv'; it must be one of tfrecord, parquet"):
    tfps.data.stream(str(tmp_path), parse, format="csv")
  with pytest.raises(ValueError, match="set partitions=True"):
    tfps.data.Folder(tmp_path, marker="_SUCCESS")
  inner = tmp_path / "dt=2026-01-01" / "hour=01"
  (inner / "part-1.parquet").write_bytes(b"PAR1")
  made = stream(tmp_path)
  reader = made.read()
  reader.next_day(0)
  with pytest.raises(ValueError, match="part-1.parquet is no whole Parquet file"):
    while reader.next_ticket():
      pass
  skipping = stream(tmp_path, on_bad_record="skip")
  found, _ = read(skipping, skipping.read())
  assert found == {"2026-01-01": [*range(5)]}
