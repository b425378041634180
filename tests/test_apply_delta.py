"""The signature apply_delta, in the C++ session loader: what a running server makes of chunks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfps
from tests import exports
from tfps.export.artifact import ARTIFACTS

WIDTH = 3  # of a row of the small model


def chunk(lineage, sequence=1, position=0, **fields):
  keys = np.asarray(fields.pop("keys", []), np.int64)
  rows = np.asarray(fields.pop("rows", np.zeros([len(keys), WIDTH])), np.float32)
  removed = np.asarray(fields.pop("removed", []), np.int64)
  weights = np.asarray(fields.pop("weights", []), np.float32)
  inputs = {
    "lineage": lineage, "base": 1, "sequence": sequence, "position": position, "last": 0,
    "table": "small", "keys": keys.tobytes(), "rows": rows.tobytes(),
    "removed": removed.tobytes(), "weights": weights.tobytes(), **fields,
  }  # fmt: skip
  return {name: [value] for name, value in inputs.items()}


@pytest.fixture(scope="module", name="base")
def _base(tmp_path_factory):
  model, _ = exports.make_small_model()
  return tfps.export.Exporter(model, tmp_path_factory.mktemp("export"), exports.SMALL_RAW).base()


@pytest.fixture(name="server")
def _server(base):
  session = tfps.export.SavedModelSession(base)
  yield session
  session.close()


@pytest.fixture(name="lineage")
def _lineage(base):
  return ARTIFACTS.read(base).lineage


def feasigns(*words):
  return tfps.feasign("city", list(words)).numpy()


def predict(server, *words):
  return server.run({"city": list(words)})["predictions"][:, 0]


def apply(server, inputs):
  outputs = server.run(inputs, "apply_delta")
  return outputs["sequence"].tolist(), outputs["position"].tolist()


def test_rows_change_and_go_in_place(server, lineage):
  before = predict(server, "w1", "new", "unknown")
  assert apply(server, chunk(lineage, keys=feasigns("new"), rows=[[2, 0, 0]])) == ([0], [1])
  after = predict(server, "w1", "new", "unknown")
  assert abs(after[1] - before[1]) > 0.1 and after[0] == before[0] and after[2] == before[2]
  assert apply(server, chunk(lineage, position=1, removed=feasigns("w1", "new"))) == ([0], [3])
  gone = predict(server, "w1", "new", "unknown")
  assert gone[0] == gone[1] == gone[2]


def test_the_dense_weights_come_last(server, lineage, base):
  size = ARTIFACTS.read(base).weights.size
  before = predict(server, "unknown")
  with pytest.raises(ValueError, match="come with the last chunk of a delta"):
    server.run(chunk(lineage, weights=np.ones(size)), "apply_delta")
  with pytest.raises(ValueError, match="wrong shape"):
    server.run(chunk(lineage, weights=np.ones(size + 1), last=1), "apply_delta")
  assert predict(server, "unknown")[0] == before[0]
  assert apply(server, chunk(lineage, weights=np.full(size, 2.0), last=1)) == ([1], [0])
  assert predict(server, "unknown")[0] != before[0]


@pytest.mark.parametrize(
  "wrong, message",
  [
    ({"lineage": "another"}, "holds base 1 of lineage"),
    ({"base": 2}, "holds base 1 of lineage"),
    ({"sequence": 2}, "chunks come in order"),
    ({"position": 1}, "chunks come in order"),
    ({"table": "other"}, "there is no table"),
  ],
)
def test_what_does_not_follow_is_refused_and_changes_nothing(server, lineage, wrong, message):
  before = predict(server, "w1", "w2")
  fields = {"lineage": lineage, "keys": feasigns("w1"), "rows": [[5, 0, 0]], **wrong}
  with pytest.raises(ValueError, match=message):
    server.run(chunk(**fields), "apply_delta")
  np.testing.assert_array_equal(predict(server, "w1", "w2"), before)
  status = server.run({"ask": [0]}, "delta_status")
  assert (status["sequence"].tolist(), status["position"].tolist()) == ([0], [0])


def joined(*chunks):
  return {name: [value for one in chunks for value in one[name]] for name in chunks[0]}


def test_of_joined_chunks_the_one_that_is_due_is_applied_and_all_learn_it(server, lineage):
  one = chunk(lineage, keys=feasigns("w1"), rows=[[1, 0, 0]])
  assert apply(server, joined(one, one, one)) == ([0, 0, 0], [1, 1, 1])
  second = chunk(lineage, position=1, keys=feasigns("w2"), rows=[[1, 0, 0]])
  other = chunk(lineage, position=1, keys=feasigns("w3", "w4"), rows=[[1, 0, 0], [1, 0, 0]])
  alien = chunk("another", position=1, keys=feasigns("w5"), rows=[[1, 0, 0]])
  early = chunk(lineage, position=7, keys=feasigns("w6"), rows=[[1, 0, 0]])
  words = [f"w{i}" for i in range(1, 7)]
  before = predict(server, *words)
  assert apply(server, joined(alien, early, one, second, other)) == ([0] * 5, [2] * 5)
  assert (predict(server, *words) != before).tolist() == [False, True, *[False] * 4]
  # Nothing is due: who sent a chunk that was applied before has no part in the others' faults.
  assert apply(server, joined(alien, early, one)) == ([0] * 3, [2] * 3)
  with pytest.raises(ValueError, match="chunks come in order|holds base 1 of lineage"):
    apply(server, joined(alien, early))


@settings(max_examples=5)
@given(st.data())
def test_chunks_sent_again_in_any_way_leave_what_each_once_leaves(base, data):
  lineage = ARTIFACTS.read(base).lineage
  rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
  words = [f"w{i}" for i in range(12)]
  chunks, sequence, position = [], 1, 0
  for _ in range(data.draw(st.integers(1, 6))):
    last = int(rng.integers(3) == 0)
    some = rng.permutation(12)[:4]
    chunks.append(chunk(
      lineage, sequence, position, last=last,
      keys=feasigns(*(words[i] for i in some[:3])), rows=rng.normal(size=(3, WIDTH)),
      removed=feasigns(words[some[3]]),
    ))  # fmt: skip
    sequence, position = (sequence + 1, 0) if last else (sequence, position + 4)
  expected = {}
  for sent in chunks:
    expected.update(dict.fromkeys(np.frombuffer(sent["removed"][0], np.int64).tolist()))
    rows = np.frombuffer(sent["rows"][0], np.float32).reshape(-1, WIDTH)
    expected.update(zip(np.frombuffer(sent["keys"][0], np.int64).tolist(), rows))
  server = tfps.export.SavedModelSession(base)
  for i, sent in enumerate(chunks):
    apply(server, sent)
    for again in data.draw(st.lists(st.integers(0, i), max_size=2)):
      apply(server, chunks[again])
  status = server.run({"ask": [0]}, "delta_status")
  assert (status["sequence"][0], status["position"][0]) == (sequence - 1, position)
  # The same at once, on a server that has seen nothing else.
  other = tfps.export.SavedModelSession(base)
  put = {key: row for key, row in expected.items() if row is not None}
  dropped = [key for key, row in expected.items() if row is None]
  rows = np.reshape(list(put.values()), [-1, WIDTH])
  apply(other, chunk(lineage, keys=list(put), rows=rows, removed=dropped))
  np.testing.assert_array_equal(predict(server, *words), predict(other, *words))
  other.close()
  server.close()
