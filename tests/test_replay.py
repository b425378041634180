"""`tfps replay`: a clean log is level bit by bit; every fault put into a log is found and named."""

import copy
import gzip
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

import tfps
from tests import replays
from tests.commands import fails, run
from tests.replays import CANDIDATES, REQUESTS, STATES
from tfps.replay import compare, predictions, records

EXAMPLES = REQUESTS * CANDIDATES


@pytest.fixture(scope="module", name="world")
def _world(tmp_path_factory):
  world = replays.World(tmp_path_factory.mktemp("replay"))
  yield world
  world.server.close()


def replay(capsys, world, *arguments):
  """(exit code, the report as JSON) of `tfps replay EXPORT_FOLDER ARGUMENTS`."""
  code, out, err = run(capsys, "replay", world.folder / "export", *arguments, "--json")
  assert out, err
  return code, json.loads(out)


def differing_slots(comparison):
  return {row["slot"]: row["kinds"] for row in comparison["slots"] if row["differ"]}


def test_a_clean_log_is_level_bit_by_bit(world, capsys):
  checkpoint = f"--checkpoint={world.folder / 'checkpoints'}"
  code, found = replay(
    capsys, world, world.folder / "log-*", "--samples", world.samples, *world.config, checkpoint,
    "--tolerance=0", "--trainer-tolerance=1e-6",
  )  # fmt: skip
  assert (code, found["verdict"]) == (0, "level")
  assert found["log"]["examples"] == found["log"]["replayed"] == found["samples"] == EXAMPLES
  (base,) = found["bases"]
  assert (base["version"], base["delta"], base["step"]) == (1, 2, 3)
  for comparison in (base["features"]["code"], base["features"]["samples"]):
    assert (comparison["examples"], comparison["differ"]) == (EXAMPLES, 0)
    assert [row["slot"] for row in comparison["slots"]] == ["history", "price", "tags", "user"]
  logged = base["predictions"]["outputs"]["predictions"]
  assert logged["max"] == logged["mean"] == 0 and logged["calibration"] == 1
  assert base["predictions"]["by_delta"] == {
    str(state): len(numbers) * CANDIDATES for state, numbers in STATES.items()
  }
  assert base["trainer"]["predictions"]["predictions"] == EXAMPLES
  assert 0 <= base["trainer"]["predictions"]["max"] <= 1e-6


def test_what_is_printed(world, capsys):
  code, out, err = run(
    capsys, "replay", world.folder / "export", world.folder / "log-*", "--max-examples=40"
  )
  assert code == 0, err
  assert "every 3rd" not in out and "every 3th record is replayed: 40 examples" in out
  assert "40 examples, 0 (0.0%) differ from every state of it" in out
  assert "served by: " in out and out.rstrip().endswith("Level: 40 predictions of base 1.")


def padded(history):
  """With values that are not those which fill up."""
  return np.pad(history, ((0, 0), (0, 2)), constant_values="0")


# The slot of a fault, the kind by which it is found, and what a client does.
FAULTS = [
  ("tags", "missing in serving", lambda raw: raw | {"tags": np.full_like(raw["tags"], "")}),
  ("price", "rounding", lambda raw: raw | {"price": np.round(raw["price"], 2)}),
  ("history", "number", lambda raw: raw | {"history": padded(raw["history"])}),
  ("history", "order", lambda raw: raw | {"history": raw["history"][:, ::-1]}),
  ("user", "value", lambda raw: raw | {"user": raw["user"] + (raw["user"] < 9)}),
  ("none", "", lambda raw: raw),
]


def faulty(raw):
  """What the client sends: each request has one of the faults."""
  return FAULTS[int(raw["request_id"][0][1:]) % len(FAULTS)][2](raw)


def test_faults_of_clients_are_found_in_their_slots(world, capsys):
  code, found = replay(
    capsys, world, world.serve("faulty", faulty), "--samples", world.samples, *world.config
  )
  assert (code, found["verdict"]) == (1, "differs")
  (base,) = found["bases"]
  assert base["features"]["code"]["differ"] == 0  # The code is the same: the values are not.
  assert base["predictions"]["by_delta"] == {"2": EXAMPLES}
  comparison = base["features"]["samples"]
  rows = {row["slot"]: row for row in comparison["slots"]}
  assert {slot: row["kinds"] for slot, row in rows.items()} == pandas_counts(world)
  assert {slot: set(row["kinds"]) for slot, row in rows.items()} == {
    slot: {kind for name, kind, _ in FAULTS if name == slot} for slot in rows
  }
  explained = {slot: row["prediction_changes_by"]["explains"] for slot, row in rows.items()}
  assert min(explained.values()) > 0
  assert sum(explained.values()) == comparison["predictions_changed"] <= comparison["differ"]
  for slot, row in rows.items():
    assert len({first["where"].partition(", row")[0] for first in row["first"]}) > 1
    for first in row["first"]:
      number, _, item = first["id"].partition("/")
      raw = world.requests[int(number[1:])]
      at = raw["item_id"].tolist().index(item)
      assert first["where"].startswith(f"{world.folder}/faulty.tfrecord, the record at byte ")
      assert first["where"].endswith(f"row {at}")
      values = [value for value in np.ravel(raw[slot][at]).tolist() if value not in ("", 0)]
      assert first["raw"]["training"] == values != first["raw"]["serving"]


def pandas_counts(world):
  """{slot: {kind: how many examples}} of the faults, counted by pandas on raw values."""
  frames = []
  for requests in (map(faulty, map(dict, world.requests)), world.requests):
    rows = [
      {name: _hashable(values[i]) for name, values in raw.items()}
      for raw in requests
      for i in range(CANDIDATES)
    ]
    frames.append(pd.DataFrame(rows))
  both = frames[0].merge(frames[1], on=["request_id", "item_id"], suffixes=("_log", "_sample"))
  assert len(both) == EXAMPLES
  kinds = both["request_id"].str[1:].astype(int) % len(FAULTS)
  return {
    slot: kinds[both[f"{slot}_log"] != both[f"{slot}_sample"]]
    .map(lambda number: FAULTS[number][1])
    .value_counts()
    .to_dict()
    for slot in ("history", "price", "tags", "user")
  }


def _hashable(value):
  if np.ndim(value):
    return " ".join(np.asarray(value).tolist()).rstrip()
  return value.item()


def test_clients_that_hash_a_slot_as_another(world, capsys):
  def hashed(raw):
    text = lambda name: tf.constant(raw[name])
    return {
      "user": tfps.feasign("usr", raw["user"]),
      "tags": tfps.feasign("tags", text("tags"), padding=""),
      "history": tfps.feasign("history", text("history"), padding=""),
      "price": raw["price"][:, np.newaxis],
    }

  # Feasigns have no id among them: the log is compared by what identifies an example in it.
  path = world.serve("hashed", hashed, "feasigns")
  samples = [
    replays.example({**raw, "price_id": raw["price"]}, row)
    for raw in world.requests
    for row in range(CANDIDATES)
  ]
  samples = replays.write(world.folder / "by_price.tfrecord", samples)
  code, found = replay(capsys, world, path, "--samples", samples, "--id", "price")
  assert code == 1
  (base,) = found["bases"]
  assert differing_slots(base["features"]["samples"]) == {"user": {"value": EXAMPLES}}
  assert base["features"]["code"] is None
  assert base["predictions"]["differ"] == 0  # The server served what it was sent.


def test_code_that_hashes_a_slot_as_another(world, capsys):
  code, found = replay(
    capsys, world, world.clean[0], *world.config, "--config.data.user_hashed_as=usr", "--slots",
    "user", "tags",
  )  # fmt: skip
  assert code == 1
  (base,) = found["bases"]
  assert differing_slots(base["features"]["code"]) == {"user": {"value": 40}}
  assert len(base["features"]["code"]["slots"]) == 2
  (judged,) = found["differing"]
  assert judged["what"].startswith("features as the trainer's code makes them")


def test_predictions_that_no_state_makes(world, capsys):
  logs = [
    prediction_log_pb2.PredictionLog.FromString(log.SerializeToString()) for log in world.logs
  ]
  outputs = logs[7].predict_log.response.outputs["predictions"]
  changed = tf.make_ndarray(outputs).copy()
  changed[2] += 0.25
  outputs.CopyFrom(tf.make_tensor_proto(changed))
  path = replays.write(world.folder / "padded.tfrecord", logs)
  code, found = replay(capsys, world, path)
  assert code == 1
  (base,) = found["bases"]
  assert base["predictions"]["differ"] == 1
  assert base["predictions"]["outputs"]["predictions"]["differ"] == 1
  assert base["predictions"]["by_delta"] == {"0": 55, "1": 24, "2": 40}
  assert base["predictions"]["outputs"]["predictions"]["max"] == pytest.approx(0.25, abs=1e-6)
  worst = base["predictions"]["worst"][0]
  assert worst["id"] == f"r7/{world.requests[7]['item_id'][2]}" and worst["where"].endswith("row 2")
  code, found = replay(capsys, world, path, "--deltas=1", "--allowed-share=0.35")
  assert (code, found["bases"][0]["predictions"]["differ"]) == (0, 41)
  assert found["bases"][0]["predictions"]["by_delta"] == {"0": 55, "1": 24}


def test_another_version_is_no_part_of_the_verdict(world, capsys):
  logs = [
    prediction_log_pb2.PredictionLog.FromString(log.SerializeToString()) for log in world.logs
  ]
  for log in logs[:20]:
    log.predict_log.response.model_spec.version.value = 9
  path = replays.write(world.folder / "versions.tfrecord", logs)
  code, found = replay(capsys, world, path)
  assert (code, found["log"]["versions"]) == (0, {"9": 80, "1": 40})
  (other,) = found["other_versions"]
  assert (other["version"], other["base"]) == (9, 1)
  assert other["outputs"]["predictions"]["predictions"] == 80
  assert other["outputs"]["predictions"]["max"] > 1e-4  # By deltas that came later.
  assert found["bases"][0]["predictions"]["examples"] == 40
  path = replays.write(world.folder / "only_version.tfrecord", logs[:20])
  code, found = replay(capsys, world, path)
  assert (code, found["verdict"]) == (2, "nothing was compared")
  assert "no base 9; it has 1" in fails(
    capsys, "replay", world.folder / "export", path, "--version=9"
  )


@pytest.mark.parametrize("kind", ["json.gz", "examples"])
def test_feature_logs(world, capsys, kind):
  """The server's last state; the file names no version, so --version says whose they are."""
  path = world.folder / f"features.{kind}"
  rows, numbers = [], list(STATES[2])
  for number in numbers:
    raw = world.requests[number]
    served = tf.make_ndarray(world.logs[number].predict_log.response.outputs["predictions"])
    for i in range(CANDIDATES):
      prediction = float(served[i, 0])
      if kind == "examples":
        rows.append(replays.example(raw, i, prediction=prediction))
      else:
        row = {name: values[i].tolist() for name, values in raw.items()}
        row["of the item"] = {"item_id": row.pop("item_id"), "price": row.pop("price")}
        rows.append(json.dumps(row | {"prediction": prediction}))
  if kind == "examples":
    replays.write(path, rows)
  else:
    with gzip.open(path, "wt") as file:
      file.write("\n".join([*rows[:3], "{no json", '{"user": "a text"}', *rows[3:]]) + "\n")
  count = len(numbers) * CANDIDATES
  code, found = replay(capsys, world, path, "--version=1", "--samples", world.samples)
  assert code == 0, found["differing"]
  (base,) = found["bases"]
  assert base["predictions"]["examples"] == base["features"]["samples"]["examples"] == count
  assert base["predictions"]["by_delta"] == {"2": count}
  if kind == "json.gz":
    reasons = {one["reason"]: one["first"] for one in found["log"]["unusable"]}
    assert reasons["the line is not JSON"][0].startswith(f"{path}, line 4 (byte ")
    (place,) = reasons["the features are not those of the model"]
    assert f"{path}, line 5 " in place and "'user' is \"a text\"" in place
    code, found = replay(capsys, world, path)  # Without a version nothing is judged.
    assert code == 2 and found["other_versions"][0]["version"] is None


def test_classify_and_regress_logs(world, capsys):
  """As TensorFlow Serving answers these calls, from a session: the stand-in has only Predict."""
  session = tfps.export.SavedModelSession(world.folder / "export" / "base" / "1")
  logs = []
  for number, raw in enumerate(world.requests):
    log = prediction_log_pb2.PredictionLog()
    kind = "classify" if number % 2 else "regress"
    of_kind = getattr(log, f"{kind}_log")
    examples = [replays.example(raw, row) for row in range(CANDIDATES)]
    of_kind.request.input.example_list.examples.extend(examples)
    of_kind.request.model_spec.signature_name = kind
    of_kind.response.model_spec.version.value = 1
    outputs = session.run({"inputs": [one.SerializeToString() for one in examples]}, kind)
    for row in range(CANDIDATES):
      if kind == "regress":
        of_kind.response.result.regressions.add(value=outputs["outputs"][row])
        continue
      classes = of_kind.response.result.classifications.add().classes
      for label, score in zip(outputs["classes"][row], outputs["scores"][row]):
        classes.add(label=label, score=score)
    logs.append(log)
  session.close()
  path = replays.write(world.folder / "classified.tfrecord", logs)
  code, found = replay(capsys, world, path, "--samples", world.samples, "--tolerance=0")
  assert code == 0
  (base,) = found["bases"]
  assert base["predictions"]["by_delta"] == {"0": EXAMPLES}
  assert base["features"]["samples"]["examples"] == EXAMPLES
  assert set(base["predictions"]["outputs"]) == {"outputs", "scores"}


def test_what_cannot_be_replayed_is_counted_and_named(world, capsys):
  other = prediction_log_pb2.PredictionLog()
  other.session_run_log.request.model_spec.name = "ctr"
  lacks = copy.deepcopy(world.logs[0])
  del lacks.predict_log.request.inputs["tags"]
  status = replays.log_of(*world.server.exchange({"ask": np.array([0])}, "delta_status"))
  path = replays.write(world.folder / "odd.tfrecord", [*world.logs[:4], other, lacks, status])
  code, found = replay(capsys, world, path)
  assert code == 0
  assert {one["reason"]: one["records"] for one in found["log"]["unusable"]} == {
    "a session_run_log is not replayed": 1,
    "the signature 'delta_status' is not replayed": 1,
    "the request is none for the model": 1,
  }
  assert any("lacks the input 'tags'" in one["first"][0] for one in found["log"]["unusable"])
  code, out, _ = run(capsys, "replay", world.folder / "export", path, "--model-name=another")
  assert code == 2 and "Nothing was compared of predictions that the log has" in out
  none = replays.write(world.folder / "no_sample.tfrecord", [replays.example(world.requests[9], 0)])
  code, found = replay(capsys, world, path, "--samples", none)
  assert (code, found["missing"]) == (2, ["features of samples"])
  assert found["bases"][0]["features"]["without_sample"] == 16
  samples = ["--samples", world.samples, "--slots", "tag"]
  err = fails(capsys, "replay", world.folder / "export", path, *samples)
  assert "no slot 'tag' on both sides; they have history, price" in err
  assert "matches no file" in fails(
    capsys, "replay", world.folder / "export", world.folder / "absent*"
  )
  assert "has no base" in fails(capsys, "replay", world.folder, path)


def test_damaged_records_are_named_and_the_others_are_read(tmp_path):
  messages = [tf.train.Example() for _ in range(600)]
  for i, message in enumerate(messages):
    message.features.feature["n"].int64_list.value.append(i)
  path = replays.write(tmp_path / "log", messages)
  places = [record.place.byte for record in records.read(str(path), records.Unusable())]
  content = bytearray(path.read_bytes())
  read = lambda unusable: [
    tf.train.Example.FromString(r.content).features.feature["n"].int64_list.value[0]
    for r in records.read(str(path), unusable)
  ]
  assert read(records.Unusable()) == list(range(600))
  for number in (0, 300, 301):
    content[places[number] + 14] ^= 1
  path.write_bytes(content)
  unusable = records.Unusable()
  assert read(unusable) == [n for n in range(600) if n not in (0, 300, 301)]
  assert unusable.places == {
    "the checksum of the record does not hold": [
      f"{path}, the record at byte {places[n]:,}" for n in (0, 300, 301)
    ]
  }
  content[places[500]] ^= 1  # The length: where the next begins is not known.
  path.write_bytes(content)
  unusable = records.Unusable()
  assert read(unusable) == [n for n in range(500) if n not in (0, 300, 301)]
  (place,) = unusable.places["the rest of the file cannot be read"]
  assert place.startswith(f"{path}, the record at byte {places[500]:,}: ")
  path = tmp_path / "log.gz"
  replays.write(path, messages, compressed=True)
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2])
  unusable = records.Unusable()
  found = read(unusable)
  assert 0 < len(found) < 600 and found == list(range(len(found)))
  assert unusable.counts == {"the rest of the file cannot be read": 1}


@pytest.mark.parametrize(
  "serving, training, kind",
  [
    ([[1, 2, 0]], [[1, 2]], None),
    ([[b"a", b""]], [[b"a"]], None),
    ([1.5], [[1.5]], None),
    ([[np.nan]], [[np.nan]], None),
    ([[0, 0]], [[1, 2]], "missing in serving"),
    ([[b"a"]], [[b""]], "missing in training"),
    ([[1, 2]], [[2, 1]], "order"),
    ([[0, 1]], [[1, 0]], "order"),
    ([[1, 2, 3]], [[1, 2]], "number"),
    ([[1, 2]], [[1, 3]], "value"),
    ([1.501], [1.5], "rounding"),
    ([1.6], [1.5], "value"),
    ([np.nan], [1.5], "value"),
    ([5], [b"5"], "value"),
  ],
)
def test_kinds_of_differences(serving, training, kind):
  as_array = lambda values: np.array(
    values, object if isinstance(np.ravel(np.array(values, object))[0], bytes) else None
  )
  (found,) = compare.kinds(as_array(serving), as_array(training))
  assert (compare.KINDS[found] if found >= 0 else None) == kind


def test_differences_are_those_of_numpy():
  rng = np.random.default_rng(0)
  first, second = rng.uniform(size=(2, 1000)).astype(np.float32)
  found = predictions.difference(first, second, 0.5)
  apart = pd.Series(first.astype(float) - second.astype(float)).abs()
  assert found.differ == (apart > 0.5).sum() and found.max == apart.max()
  assert found.mean == pytest.approx(apart.mean(), rel=1e-12)
  for q, value in found.quantiles.items():
    assert value == apart.quantile(q, interpolation="higher")
  assert found.calibration == pytest.approx(first.mean() / second.mean(), rel=1e-5)
  second[0] = np.nan
  assert predictions.difference(first, second, 0.5).max == np.inf


def test_help_and_wrong_options(world, capsys):
  code, out, _ = run(capsys, "replay", "--help")
  assert code == 0 and "PredictionLog" in out and "2 if nothing was compared" in out
  err = fails(capsys, "replay", world.folder, world.clean[0], "--checkpoint=x", code=2)
  assert "--checkpoint needs --config" in err
