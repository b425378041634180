"""Bad records: skipped and counted once, or refused with their place.

What is good is what it is without them.
"""

import gzip
import os
import random
import re

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import strategies as st

import tfps
from tests.soak import bad_record_trainer, pushes
from tfps.data import bad_records
from tfps.layers.embedding import tables_of

GOOD = "good"
# What a line of `click,weight,user` can have, and the reason by which it is counted.
BAD = {
  "no,1,u": "field 'click' is not a valid float",
  ",1,u": "field 'click' is required but missing",
  "1,u": "Expect 3 fields but have 2",
  "1,1,u,v": "Expect 3 fields but have 4",
  "nan,1,u": "the label is no finite number",
  "inf,1,u": "the label is no finite number",
  "-1,1,u": "the label is negative",
  "1,nan,u": "the weight is no finite number",
  "1,-2,u": "the weight is negative",
  "1,1,": "field 'user' is empty",
}


def parse(lines):
  required = tf.constant([], tf.float32)
  click, weight, user = tf.io.decode_csv(lines, [required, [1.0], [""]])
  tfps.data.reject(user == "", "field 'user' is empty")
  bag = tf.strings.split(user, "1")
  x = {"user": tfps.feasign("user", user), "bag": bag, "sparse": bag.to_sparse()}
  return x, click[:, tf.newaxis], weight[:, tf.newaxis]


def make(path, **settings):
  settings = {"batch_size": 3, "batches_per_ticket": 2, "on_bad_record": "skip", **settings}
  source = tfps.data.source(str(path), parse, **settings)
  source._parser._columns = ("click", "weight", "user")
  return source


def write(path, lines):
  content = "".join(f"{line}\n" for line in lines).encode()
  path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
  return path


def read(source, ticket):
  """(users' bags of the good records, {reason: how many} of the others) of a ticket."""
  reading = source.reading(ticket)
  bags, sizes = [], []
  for x, y, weight in reading.batches:
    assert len(y) == len(weight) == len(x["user"]) == x["bag"].nrows()
    assert tf.RaggedTensor.from_sparse(x["sparse"]).to_list() == x["bag"].to_list()
    bags += [b"1".join(bag).decode() for bag in x["bag"].to_list()]
    sizes.append(len(y))
  assert 0 not in sizes
  if not ticket.path.endswith(".gz"):
    assert sizes[:-1] == [source.batch_size] * (len(sizes) - 1)
  skipped = reading.skipped(tf.constant(len(bags), tf.int64))
  skipped = bad_records.Skipped(*(tensor.numpy() for tensor in skipped))
  return bags, skipped


lines = st.lists(st.one_of(st.just(GOOD), st.sampled_from(list(BAD))), max_size=25)


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(lines, st.booleans(), st.booleans(), st.booleans())
def test_good_records_are_all_there_and_bad_ones_counted(tmp_path, kinds, shuffle, header, gz):
  lines = [f"1,2,u{i}" if kind == GOOD else kind for i, kind in enumerate(kinds)]
  path = write(tmp_path / ("a.gz" if gz else "a"), ["click,weight,user"] * header + lines)
  source = make(path, shuffle=shuffle, header=header)
  users, counts = [], {}
  for ticket in source.tickets():
    of_ticket, skipped = read(source, ticket)
    assert len(of_ticket) + skipped.counts.sum() == ticket.records
    users += of_ticket
    for reason, count, first, detail in zip(*skipped):
      counts[reason.decode()] = counts.get(reason.decode(), 0) + count
      # It is said which line it is, and what is wrong with it.
      place = source.place_of(ticket, int(first))
      number = int(re.search(r"line (\d+)", place)[1]) - 1 - header
      assert BAD[lines[number]] == reason.decode() and detail.startswith(reason)
  expected = [f"u{i}" for i, kind in enumerate(kinds) if kind == GOOD]
  assert sorted(users) == sorted(expected) if shuffle else users == expected
  wrong = [BAD[kind] for kind in kinds if kind != GOOD]
  assert counts == {reason: wrong.count(reason) for reason in wrong}


class Tower(tfps.Model):
  def __init__(self):
    super().__init__()
    accessor = tfps.CtrAccessor(create_threshold=0.5, delete_threshold=0, decay_rate=1)
    self.embedding = tfps.Embedding(
      tfps.FeasignTable("ctr", mf_dim=4, accessor=accessor), ["user", "bag"]
    )
    self.dense = keras.layers.Dense(1)

  def call(self, x):
    embedded = self.embedding(x)
    return tf.sigmoid(embedded.lr_logit + self.dense(keras.layers.Flatten()(embedded.mf)))


def fit(source, epochs=1, callbacks=(), **settings):
  keras.utils.set_random_seed(1)
  model = Tower()
  model.compile(
    "sgd", "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")], weighted_metrics=[]
  )
  history = model.fit(source, epochs=epochs, verbose=0, callbacks=list(callbacks), **settings)
  return model, history.history


def state(model):
  (table,) = tables_of(model)
  statistics = table.statistics()
  return model.get_weights(), [statistics[name] for name in ("rows", "show", "click", "pushes")]


def test_what_is_trained_is_what_is_trained_without_the_bad_records(tmp_path, capfd):
  """Of tickets that are good, that have bad records, and that have nothing else."""
  rng = np.random.default_rng(1)
  good = [f"{rng.integers(2)},{rng.integers(1, 4)},u{rng.integers(9)}" for _ in range(24)]
  bad = list(BAD)
  dirty = good[:6] + bad[:6] + good[6:9] + bad[6:9] + bad[:6] + good[9:] + ["1,1,"]
  (tmp_path / "bad").write_text("\n".join(dirty) + "\n")
  # The same batches: of 3, with a ticket's last one smaller.
  clean = []
  for begin in range(0, len(dirty), 6):
    kept = [line for line in dirty[begin : begin + 6] if line not in BAD]
    clean.append("".join(f"{line}\n" for line in kept))
  for i, content in enumerate(clean):
    (tmp_path / f"good-{i}").write_text(content)
  skipped = tfps.callbacks.SkippedRecords()
  throughput = tfps.callbacks.Throughput()
  model, logs = fit(make(tmp_path / "bad"), 2, [skipped, throughput])
  expected, expected_logs = fit(make(tmp_path / "good-*", on_bad_record="fail"), 2)
  for value, other in zip(state(model), state(expected)):
    for one, two in zip(value, other):
      np.testing.assert_array_equal(one, two)
  assert logs == expected_logs
  assert sum(skipped.counts.values()) == 2 * (len(dirty) - 24)
  assert throughput.examples == 2 * 24
  assert skipped.counts["field 'user' is empty"] == 2
  assert re.search(r"tfps: skipped 1 of the 6 records, such as .*/bad, line 7 \(byte \d+\): field "
                   r"'click' is not a valid float: no\.", capfd.readouterr().err)  # fmt: skip
  # What does not train sees the same.
  assert len(model.predict(make(tmp_path / "bad"))) == 24
  evaluated = model.evaluate(make(tmp_path / "bad"), verbose=0)
  np.testing.assert_allclose(
    evaluated, model.evaluate(make(tmp_path / "good-*"), verbose=0), rtol=1e-6
  )


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_a_bad_record_is_refused_with_its_place(tmp_path, name):
  for line in BAD if name == "a" else ["no,1,u"]:
    path = write(tmp_path / name, ["1,1,u"] * 8 + [line, "1,1,u"])
    source = make(path, on_bad_record="fail")
    last = list(source.tickets())[-1]
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
      list(source.open(last))
    told = source.explain(last, raised.value)
    assert isinstance(told, tfps.data.BadRecordError)
    assert str(told).startswith(f"{path}, line 9 (byte 48): {BAD[line]}")
    assert str(told).endswith("; fix the record, or set on_bad_record to 'skip'.")


def test_training_and_evaluation_refuse_a_bad_record(tmp_path):
  source = make(write(tmp_path / "a", ["1,1,u"] * 8 + ["1,1,"]), on_bad_record="fail")
  with pytest.raises(tfps.data.BadRecordError, match="a, line 9 .*: field 'user' is empty; "):
    fit(source)
  model, _ = fit(make(write(tmp_path / "fine", ["1,1,u"])))
  with pytest.raises(tfps.data.BadRecordError, match="a, line 9 .*: field 'user' is empty; "):
    model.evaluate(source, verbose=0)
  # TensorFlow's own error quotes what Python cannot decode.
  (tmp_path / "binary").write_bytes(b"1,1,u\n\xff\xee,1,u\n")
  source = make(tmp_path / "binary", on_bad_record="fail")
  with pytest.raises(tfps.data.BadRecordError, match="binary, line 2 .*: field 'click' is not a "):
    fit(source)


def test_too_many_bad_records_end_a_run(tmp_path):
  path = write(tmp_path / "a", ["1,1,u", "1,1,"] * 8 + ["no,1,u"])
  _model, _ = fit(make(path, max_bad_records=9))
  with pytest.raises(
    tfps.data.BadRecordError,
    match=r"9 records were skipped, more than max_bad_records, 8: field 'user' is empty \(8\), "
    r"field 'click' is not a valid float \(1\); fix the data, or allow for more\.$",
  ):
    fit(make(path, max_bad_records=8))
  fit(make(path, max_bad_records=0))


def test_a_run_that_goes_on_counts_each_bad_record_once(tmp_path):
  path = write(tmp_path / "a", ["1,1,u", "1,1,"] * 20)

  class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
      if batch == 4:
        raise KeyboardInterrupt

  def callbacks():
    return [tfps.callbacks.Checkpoint(str(tmp_path / "checkpoints"), every_tickets=2)]

  with pytest.raises(KeyboardInterrupt):
    fit(make(path), callbacks=[*callbacks(), Interrupt()])
  skipped = tfps.callbacks.SkippedRecords(str(tmp_path / "log"))
  throughput = tfps.callbacks.Throughput()
  fit(make(path), callbacks=[*callbacks(), skipped, throughput])
  assert skipped.counts == {"field 'user' is empty": 20}
  assert throughput.examples == 20 - 12  # those of the last four tickets
  events = list((tmp_path / "log").glob("events*"))
  assert b"skipped/field 'user' is empty" in events[0].read_bytes()


def write_tfrecord(path, count):
  with tf.io.TFRecordWriter(str(path)) as writer:
    for i in range(count):
      writer.write(b"%d,1,u%d" % (i % 2, i % 10))
  return path  # each record takes 6 + 16 bytes


def test_a_tfrecord_with_a_wrong_checksum(tmp_path):
  path = write_tfrecord(tmp_path / "a", 8)
  whole = path.read_bytes()
  for number in range(8):
    content = bytearray(whole)
    content[22 * number + 12 + 5] ^= 1
    path.write_bytes(content)
    source = make(path, format="tfrecord")
    first, last = [read(source, ticket) for ticket in source.tickets()]
    assert first[0] + last[0] == [f"u{i}" for i in range(8) if i != number]
    reasons = [*first[1].reasons, *last[1].reasons]
    assert reasons == [b"the checksum of its bytes does not hold"]
  told = make(path, format="tfrecord", on_bad_record="fail").explain(
    list(source.tickets())[1], None
  )
  assert f"{path}, the record at byte 154: the checksum of its bytes does not hold;" in str(told)


def test_reading_damaged_tfrecords_leaves_no_threads_behind(tmp_path):
  path = write_tfrecord(tmp_path / "a", 8)
  content = bytearray(path.read_bytes())
  content[12 + 5] ^= 1
  path.write_bytes(content)

  def threads_after(times):
    for _ in range(times):
      source = make(path, format="tfrecord")
      for ticket in source.tickets():
        read(source, ticket)
    return len(os.listdir("/proc/self/task"))

  before = threads_after(2)
  assert threads_after(20) < before + 20


@pytest.mark.parametrize("size, kept", [(22 * 7 + 3, 7), (22 * 7 - 3, 6), (22 * 6 + 1, 6), (5, 0)])
def test_where_a_tfrecord_file_is_cut_short(tmp_path, size, kept):
  path = write_tfrecord(tmp_path / "a", 8)
  path.write_bytes(path.read_bytes()[:size])
  source = make(path, format="tfrecord")
  assert source.records == kept == sum(len(read(source, t)[0]) for t in source.tickets())
  (bad,) = source.skipped_in_index(0)
  assert f"{path} is cut short: its record at byte {22 * kept}" in bad.detail


def test_a_tfrecord_file_that_is_cut_short_counts(tmp_path, capfd):
  size, kept = 22 * 7 - 3, 6
  path = write_tfrecord(tmp_path / "a", 8)
  path.write_bytes(path.read_bytes()[:size])
  skipped = tfps.callbacks.SkippedRecords()
  model, _ = fit(make(path, format="tfrecord"), callbacks=[skipped])
  assert state(model)[1][1] == 2 * kept  # shows: a user and a bag of it
  assert skipped.counts == {"the rest of the file cannot be read": 1}
  assert f"{path} is cut short: its record at byte {22 * kept}" in capfd.readouterr().err


def test_a_length_of_a_tfrecord_that_is_wrong(tmp_path):
  path = write_tfrecord(tmp_path / "a", 8)
  content = bytearray(path.read_bytes())
  content[22 * 5 + 2] ^= 1
  path.write_bytes(content)
  source = make(path, format="tfrecord")
  assert source.records == 5
  (bad,) = source.skipped_in_index(0)
  assert f"{path} is not a TFRecord file at byte 110" in bad.detail


def test_a_csv_names_its_fields(tmp_path):
  path = write(tmp_path / "a.csv", ["user,click", "u,1", "u"])

  def parse(columns):
    return {"user": columns["user"]}, tf.strings.to_number(columns["click"])[:, tf.newaxis]

  source = tfps.data.source(str(path), parse, format="csv", header=True, on_bad_record="skip")
  reading = source.reading(next(source.tickets()))
  assert [y.numpy().tolist() for _, y in reading.batches] == [[[1.0]]]
  assert reading.skipped(tf.constant(1, tf.int64)).details.numpy() == [
    b"Expect 2 fields but have 1"
  ]


def test_labels_may_be_what_they_are(tmp_path):
  path = write(tmp_path / "a", ["-3,1,u", "nan,1,u"])
  source = make(path, check_labels=False)
  assert len(read(source, next(source.tickets()))[0]) == 2


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"on_bad_record": "ignore"}, "on_bad_record is 'ignore'; it must be one of fail, skip."),
    ({"max_bad_records": -1}, "max_bad_records is -1; it must be a whole number, 0 for no limit."),
    ({"max_bad_records": True}, "max_bad_records is True; it must be"),
  ],
)
def test_what_a_source_refuses(tmp_path, settings, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    make(write(tmp_path / "a", ["1,1,u"]), **settings)


def test_nothing_is_read_from_empty_files(tmp_path):
  for name in ("a", "b"):
    (tmp_path / name).write_text("\n" if name == "a" else "")
  model, _logs = fit(make(tmp_path / "?"))
  assert state(model)[1] == [0, 0, 0, 0]
  assert list(make(tmp_path / "?").tickets()) == []


def test_a_killed_worker_counts_nothing_twice(tmp_path):
  trainer = bad_record_trainer
  trainer.write(tmp_path / "data")
  with pushes.Job(tmp_path, "async", "bad_record_trainer.py") as job:
    job.kill_within_a_ticket(0, random.Random(1))
    job.start("worker", 0)
    _, begun = job.wait_for_ticket(1)
    job.wait_for_ticket(1, more_than=begun + 3)
    trained = job.finish()
  each = trainer.EACH * trained["tickets"]
  assert each > 0
  assert trained["shows"] == [0 if kind in trainer.BAD else each for kind in range(trainer.KINDS)]
  assert trained["skipped"] == {
    "field 'click' is not a valid float": each,
    "field 'click' is required but missing": each,
  }
