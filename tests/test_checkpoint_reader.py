"""Reading checkpoints from their files alone gives the rows that a restore would."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import tfps
from tests import reference
from tests.checkpoints import KEYS, assert_same, keys_of, make_table, push, serve
from tfps.checkpoint import CheckpointError, CheckpointManager, reader, writer
from tfps.checkpoint import rows as rows_lib
from tfps.table import placement
from tfps.table.layout import TableLayout

OPTIMIZERS = [tfps.SGD(), tfps.Adagrad(), tfps.StdAdagrad(), tfps.Adam(), tfps.FTRL()]


def check_rows(table, rows):
  """`rows` are bit for bit what `table` holds of their keys."""
  there = table.lookup(rows.keys)
  assert there["found"].all()
  for name, column in (
    ("slot", rows.slots),
    ("statistics", rows.statistics),
    ("unseen_days", rows.unseen_days.astype(np.int32)),
    ("admitted", rows.admitted),
    ("served", rows.served),
  ):
    assert column.tobytes() == there[name].tobytes(), name


def check(table, saved):
  """A `SavedTable` holds what `table` does, floats and all."""
  keys = []
  for number, shard in enumerate(saved.shards()):
    assert shard.number == number
    assert np.all(placement.virtual_shards(shard.rows.keys, saved.num_shards) == number)
    check_rows(table, shard.rows)
    keys += shard.rows.keys.tolist()
    there = table.lookup(shard.rows.keys)
    for i, slot in enumerate(shard.rows.slots):
      for name, part in saved.layout.slot(slot).row.split(shard.rows.row_floats(i)).items():
        assert part.tobytes() == there[name][i].tobytes(), name
  assert sorted(keys) == keys_of(table).tolist()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_full_checkpoint_and_its_increments(tmp_path, optimizer):
  table = make_table(2, optimizer=optimizer)
  manager = CheckpointManager(tmp_path, None, [table])

  def save(calendar, **arguments):
    manager.save({"at": calendar}, **arguments)
    checkpoint = reader.open_checkpoint(tmp_path)
    assert checkpoint.manifest.calendar == {"at": calendar}
    check(table, checkpoint.tables["ctr"])
    return checkpoint

  push(table, KEYS[:150], seed=1)
  assert len(save(0).chain) == 1
  push(table, KEYS[30:50], seed=2)  # The same rows again: some are admitted only now.
  save(1, incremental=True)
  serve(table, KEYS[:60])
  push(table, KEYS[140:160], seed=3)
  assert len(save(2, incremental=True).chain) == 3
  table.end_of_day(0)
  table.end_of_day(1)
  push(table, KEYS[150:170], seed=4)
  of_day = save(3, incremental=True)  # All of its rows, for the day has touched them.
  push(table, KEYS[160:], seed=5)
  last = save(4, incremental=True)
  assert len(last.chain) == 5
  for checkpoint in (of_day, last):
    shards = list(checkpoint.tables["ctr"].shards())
    assert {shard.finished_day for shard in shards} == {1}
    removals = np.concatenate([shard.removals for shard in shards])
    assert 0 < len(removals) < 60 and np.isin(removals, KEYS[:60]).all()


@pytest.fixture(name="saved", scope="module")
def _saved(tmp_path_factory):
  """A table and the folder of its checkpoints: a full one and an increment."""
  folder = tmp_path_factory.mktemp("checkpoints")
  table = make_table(2)
  manager = CheckpointManager(folder, None, [table])
  push(table, KEYS, seed=1)
  manager.save({"at": 1})
  push(table, KEYS[::4], seed=2)
  manager.save({"at": 2}, incremental=True)
  return table, str(folder)


def test_day_and_removals_are_those_of_the_newest(saved):
  """As they will differ once a delta has carried removals away."""
  table = reader.open_checkpoint(saved[1]).tables["ctr"]
  newest = table._bundles[-1]
  read = newest.read
  newest.read = lambda number: read(number) | {"removals": np.array([5]), "finished_day": 7}
  shard = next(table.shards())
  assert (shard.finished_day, shard.removals.tolist()) == (7, [5])


def test_find_reads_only_the_shards_it_needs(saved):
  table, folder = saved
  there = reader.open_checkpoint(folder, checksums="none").tables["ctr"]
  read = []
  shards = there.shards
  there.shards = lambda numbers: shards(read.extend(numbers) or numbers)
  keys = [KEYS[8], 12345, KEYS[1], KEYS[8]]
  rows = there.find(keys)
  assert rows.keys.tolist() == [KEYS[8], KEYS[1]]
  check_rows(table, rows)
  assert sorted(read) == sorted({reference.virtual_shard(int(key), 16) for key in keys})
  assert there.find([]).keys.tolist() == there.find([12345]).keys.tolist() == []


def test_an_older_one_is_read_by_its_path(saved):
  _, folder = saved
  checkpoint = reader.open_checkpoint(f"{folder}/checkpoint-1/")
  assert checkpoint.manifest.calendar == {"at": 1}


def test_a_relative_path(saved, monkeypatch):
  _, folder = saved
  monkeypatch.chdir(f"{folder}/checkpoint-2")
  assert reader.open_checkpoint(".").chain == [f"{folder}/checkpoint-1", f"{folder}/checkpoint-2"]


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
@pytest.mark.parametrize(
  "file",
  [
    "checkpoint-2/manifest.json",
    "checkpoint-2/ctr/server-1.index",
    "checkpoint-1/ctr/server-0.data-00000-of-00001",
    "checkpoint-1/manifest.json",
  ],
)
@pytest.mark.parametrize("checksums", ["all", "not rows", "none"])
def test_what_is_damaged_is_named(saved, file, harm, checksums):
  _, folder = saved
  path = pathlib.Path(folder, file)
  whole = path.read_bytes()
  try:
    if harm == "remove":
      path.unlink()
    else:
      half = len(whole) // 2
      flipped = whole[:half] + bytes([whole[half] ^ 4]) + whole[half + 1 :]
      path.write_bytes(flipped if harm == "flip" else whole[:half])
    with pytest.raises(CheckpointError) as raised:
      for _ in (
        reader.open_checkpoint(f"{folder}/checkpoint-2", checksums=checksums).tables["ctr"].shards()
      ):
        pass
  finally:
    path.write_bytes(whole)
  sentence = str(raised.value)
  # A flipped bit that only the tensors' own checksums find is named with the bundle.
  assert os.path.basename(file).removesuffix(".index").split(".data")[0] in sentence
  assert file.split("/")[0] in sentence and "\n" not in sentence


def test_rows_that_do_not_fit_their_options(saved):
  """Options that were changed, under a valid checksum, are not taken for floats of other rows."""
  _, folder = saved
  checkpoint = reader.open_checkpoint(folder)
  table = checkpoint.tables["ctr"]
  table.layout = TableLayout(table.saved.options.replace("mf_dim=3", "mf_dim=4"))
  with pytest.raises(CheckpointError, match="floats"):
    list(table.shards())


@pytest.mark.parametrize("path, words", [
  ("none", "no such folder"), ("empty", "no checkpoint at")])  # fmt: skip
def test_nothing_there(tmp_path, path, words):
  (tmp_path / "empty/checkpoint-3").mkdir(parents=True)
  with pytest.raises(CheckpointError, match=words):
    reader.open_checkpoint(tmp_path / path)


def test_options_of_slots():
  layout = TableLayout(
    "mf_dim=2;num_shards=4;" + ";".join(f"accessor.{name}={value}" for name, value in ACCESSOR)
    + ";lr.optimizer=ftrl;mf.optimizer=adagrad;slot.7.mf_dim=5;slot.7.mf.optimizer=adam;"
    "slot.7.accessor.delete_threshold=9;slot.3.lr.optimizer=sgd"
  )  # fmt: skip
  slots, admitted = np.array([1, 7, 3, 7, 1]), np.array([1, 1, 1, 0, 0], bool)
  # ftrl on 1: 1 + 2; adagrad on 2: 2 + 1; adam on 5: 5 + 12; sgd on 1: 1.
  assert layout.widths(slots, admitted).tolist() == [3 + 3, 3 + 17, 1 + 3, 3, 3]
  assert layout.slot(7).accessor.delete_threshold == 9
  assert layout.slot(3).accessor == layout.slot(1).accessor == tfps.CtrAccessor()
  statistics = np.array([[20.0, 0, 0]] * 5)  # Score 2.
  unseen = np.array([30, 0, 31, 0, 31], np.uint16)
  flags, floats = admitted.astype(np.uint16), np.zeros(36, np.float32)
  rows = rows_lib.make_rows(np.arange(5), slots, statistics, unseen, flags, floats, layout)
  assert layout.evictable(rows).tolist() == [False, True, True, True, True]
  with pytest.raises(ValueError, match="35 floats.* 36"):
    rows_lib.make_rows(np.arange(5), slots, statistics, unseen, flags, floats[1:], layout)


ACCESSOR = [
  (name, getattr(reference.Accessor(), name)) for name in reference.Accessor.__dataclass_fields__
]


@given(st.data())
def test_taken_and_joined_rows_keep_their_floats(data):
  widths = data.draw(st.lists(st.integers(0, 4), max_size=12))
  n = len(widths)
  ends = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
  columns = [np.arange(n) + i for i in range(5)]
  rows = rows_lib.SavedRows(*columns, np.arange(ends[-1], dtype=np.float32), ends)
  which = data.draw(st.permutations(range(n)))[: data.draw(st.integers(0, n))]
  taken = rows.take(np.array(which, int))
  joined = rows_lib.concat([taken, rows])
  for part, begin in ((taken, 0), (joined, 0)):
    assert [part.row_floats(i).tolist() for i in range(begin, len(which))] == [
      rows.row_floats(i).tolist() for i in which
    ]
    assert part.slots[: len(which)].tolist() == [i + 1 for i in which]
  assert (
    joined.row_floats(len(which) + n - 1).tolist() == rows.row_floats(n - 1).tolist() if n else True
  )


def test_what_is_written_shard_by_shard_restores(tmp_path, saved, monkeypatch):
  table, folder = saved
  checkpoint = reader.open_checkpoint(folder)
  monkeypatch.setattr(writer, "_PART_BYTES", 4000)
  out = writer.ShardWriter(f"{tmp_path}/bundle", "ctr")
  for shard in checkpoint.tables["ctr"].shards():
    out.add(shard)
  out.finish()
  assert len(list(tmp_path.glob("bundle.data-*"))) > 2
  assert not [path for path in tmp_path.iterdir() if not path.name.startswith("bundle.")]
  assert tf.train.load_checkpoint(f"{tmp_path}/bundle").get_tensor("ctr/shard-00003/whole")
  restored = make_table()
  none = np.zeros(0, np.int32)
  tfps.native.ops.tfps_restore(
    table=restored.servers[0].handle,
    prefix=f"{tmp_path}/bundle",
    table_name="ctr",
    shards=np.arange(16),
    saved_slots=none,
    slots=none,
  )
  assert_same(restored, table)
