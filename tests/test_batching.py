"""Requests that a server joins get what each of them gets alone, or an error."""

import threading
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tfps
from examples.online.batching import Batching, Parameters
from tests.model_server import ModelServer
from tfps.export import extras
from tfps.export.checking.session import SessionError
from tfps.export.served import padding

WORDS = np.array(["", "a", "b", "c"])
INVALID, PRECONDITION = 3, 9  # codes
PADDED = """
max_batch_size { value: 64 } batch_timeout_micros { value: 20000 } num_batch_threads { value: 4 }
allowed_batch_sizes: 8 allowed_batch_sizes: 64 pad_variable_length_inputs: true
"""


class Net(tfps.Model):
  """Weighted bags, a sequence whose order matters, and a fixed width."""

  def __init__(self, table):
    super().__init__()
    self.pooled = tfps.Embedding(table, ["tags", "pair"], "mean")
    self.sequence = tfps.Embedding(table, ["history"], {"history": None})

  def call(self, features, training=None):
    pooled = self.pooled(features, {"tags": features["weight"]}, training=training)
    history = self.sequence(features, training=training).sequences["history"]
    places = tf.range(1.0, tf.cast(tf.shape(history)[1], tf.float32) + 1)
    history = tf.reduce_sum(history / places[tf.newaxis, :, tf.newaxis], axis=[1, 2])
    return tf.sigmoid(pooled.lr_logit + history[:, tf.newaxis])


def features(raw):
  slots = ("tags", "pair", "history")
  return {
    **{slot: tfps.feasign(slot, raw[slot], padding="") for slot in slots},
    "weight": raw["weight"],
  }


TEXTS = tf.TensorSpec([None, None], tf.string)
RAW = tfps.data.RawInputs(
  {
    "tags": TEXTS, "weight": tf.TensorSpec([None, None], tf.float32), "history": TEXTS,
    "pair": tf.TensorSpec([None, 2], tf.string),
  },
  features,
  check_padding=True,
)  # fmt: skip


def request_of(rng, rows, tags, history):
  """Raw inputs of so many rows, of these widths."""
  words = lambda width: WORDS[rng.integers(0, 4, (rows, width))]
  return {
    "tags": words(tags),
    "weight": rng.uniform(0.5, 2, (rows, tags)).astype(np.float32),
    "history": words(history),
    "pair": words(2),
  }


@pytest.fixture(scope="module", name="export")
def _export(tmp_path_factory):
  accessor = tfps.CtrAccessor(create_threshold=0.0, base_update_threshold=0.0)
  table = tfps.FeasignTable("net", mf_dim=2, accessor=accessor, mf_init_range=0.5)
  model = Net(table)
  model.compile("adam", "binary_crossentropy")
  rng = np.random.default_rng(0)
  for _ in range(3):
    batch = {name: tf.constant(value) for name, value in request_of(rng, 32, 3, 3).items()}
    model.train_on_batch(features(batch), rng.binomial(1, 0.5, (32, 1)).astype(np.float32))
  folder = tmp_path_factory.mktemp("export")
  # Rows that end as they begin, of which the server is warmed up and the export checked with.
  same = {name: value[:, :1].repeat(2, 1) for name, value in request_of(rng, 9, 1, 1).items()}
  tfps.export.Exporter(model, folder, RAW).base(examples=same)
  return folder


@pytest.fixture(scope="module", name="session")
def _session(export):
  return tfps.export.SavedModelSession(export / "base" / "1")


def alone(session, request, signature="serving_default"):
  """float [n]: each row by itself, in a request that nobody joins."""
  rows = len(next(iter(request.values())))
  of_row = [{name: value[row : row + 1] for name, value in request.items()} for row in range(rows)]
  return np.concatenate([session.run(one, signature)["predictions"][:, 0] for one in of_row])


def together(session, requests, signature="serving_default", copies=0, **parameters):
  """What each of some requests gets in one batch: predictions [n], or a SessionError."""
  rows = sum(len(next(iter(request.values()))) for request in requests)
  micros = 20_000 if copies else 60_000_000  # A full batch does not wait.
  if copies:
    parameters["allowed_batch_sizes"] = (rows + copies,)
  parameters = Parameters(rows + copies, micros, num_batch_threads=1, **parameters)

  def ask(request):
    try:
      return batching.run(request, signature)["predictions"][:, 0]
    except SessionError as error:
      return error

  with (
    futures.ThreadPoolExecutor(1) as threads,
    futures.ThreadPoolExecutor(len(requests)) as clients,
  ):
    batching = Batching(session, parameters, threads)
    return list(clients.map(ask, requests))


def check(answers, expected, codes):
  for answer, right in zip(answers, expected):
    if isinstance(answer, SessionError):
      assert answer.code in codes, answer
    else:
      np.testing.assert_allclose(answer, right, atol=1e-6)


SHAPES = st.lists(
  st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)), min_size=2, max_size=4
)


@settings(max_examples=60)
@given(SHAPES, st.integers(0, 10**6), st.booleans(), st.sampled_from([0, 0, 2]))
def test_joined_requests_get_what_each_gets_alone_or_an_error(session, shapes, seed, pad, copies):
  rng = np.random.default_rng(seed)
  requests = [request_of(rng, *shape) for shape in shapes]
  expected = [alone(session, request) for request in requests]
  codes = [INVALID] if pad else [INVALID, PRECONDITION]
  answers = together(session, requests, copies=copies, pad_variable_length_inputs=pad)
  check(answers, expected, codes)

  dense = [session.run(padding.end_rows(request, RAW.specs), "features") for request in requests]
  check(
    together(session, dense, "feasigns", copies, pad_variable_length_inputs=pad), expected, codes
  )
  # tf.Examples have no width: they are never refused.
  examples = [{"inputs": extras.serialized(request)} for request in requests]
  check(
    together(session, examples, "examples", copies, pad_variable_length_inputs=pad), expected, []
  )


def one_row(**values):
  row = {"tags": ["a"], "weight": [1.0], "history": ["b"], "pair": ["a", "b"], **values}
  return {name: np.array([value]) for name, value in row.items()}


def test_what_the_server_filled_up_is_refused(session):
  narrow, wide = one_row(history=["a", "b"]), one_row(history=["a", "b", "c"])
  # What the server makes of the narrow one is another request, with another prediction.
  filled = one_row(history=["a", "b", "a"])
  assert abs(alone(session, filled) - alone(session, narrow)) > 1e-3
  for answer in together(session, [narrow, wide], pad_variable_length_inputs=True):
    assert "a row of input \\'history\\' ends with the value with which it begins" in str(answer)
  for answer in together(session, [narrow, wide]):
    assert answer.code == PRECONDITION and "padding is turned off" in str(answer)
  # It fills up with what stands first: an empty value in front makes both right.
  empty = [one_row(history=["", *one["history"][0]]) for one in (narrow, wide)]
  expected = [alone(session, one) for one in empty]
  answers = together(session, empty, pad_variable_length_inputs=True)
  assert not any(isinstance(answer, SessionError) for answer in answers)
  check(answers, expected, [])


def test_another_width_than_the_fixed_one_is_refused(session):
  for pair in (["a"], ["a", "b", "c"]):
    with pytest.raises(SessionError, match="each row of input .*pair.* has .2. values, not"):
      session.run(one_row(pair=pair))


def test_floats_are_looked_at_where_there_are_no_ids():
  varying = tf.TensorSpec([None, None], tf.float32)
  filled = {"price": tf.constant([[1.0, 2.0, 1.0], [1.0, 2.0, 3.0]])}
  with pytest.raises(tf.errors.InvalidArgumentError, match="a row of input 'price' ends with"):
    padding.checked(filled, {"price": varying}, True)
  ended = {
    name: tf.constant(value) for name, value in padding.end_rows(filled, {"price": varying}).items()
  }
  assert padding.checked(ended, {"price": varying}, True)["price"].shape == [2, 4]
  ids = {"ids": tf.constant([[5, 0, 0], [7, 8, 0]], tf.int64)}
  both = {"price": varying, "ids": tf.TensorSpec([None, None], tf.int64)}
  padding.checked({**filled, **ids}, both, True)
  padding.checked(filled, {"price": varying}, False)


def test_the_stand_in_keeps_the_rules_of_the_queue(session):
  read = Parameters.read(PADDED)
  assert read == Parameters(64, 20_000, 10, 4, (8, 64), True)
  with pytest.raises(ValueError, match="must match max_batch_size"):
    Parameters.read("max_batch_size { value: 3 } allowed_batch_sizes: 4")
  held = threading.Event()
  with futures.ThreadPoolExecutor(1) as threads, futures.ThreadPoolExecutor(1) as client:
    batching = Batching(session, Parameters(2, max_enqueued_batches=1), threads)
    threads.submit(held.wait)
    try:
      waiting = client.submit(batching.run, {"ask": [0, 0]}, "delta_status")
      while not batching._waiting["delta_status"]:
        pass
      with pytest.raises(SessionError, match="queue .* is full") as error:
        batching.run({"ask": [0]}, "delta_status")
      assert error.value.code == grpc.StatusCode.UNAVAILABLE.value[0]
    finally:
      held.set()
    assert len(waiting.result()["base"]) == 2
    for ask, message in (([0] * 3, "Task size 3 is larger than"), (0, "0th-dimension size")):
      with pytest.raises(SessionError, match=message) as error:
        batching.run({"ask": ask}, "delta_status")
      assert error.value.code == INVALID


def test_a_server_that_joins_and_fills_up(export, session):
  rng = np.random.default_rng(2)
  requests = [request_of(rng, 1, *rng.integers(1, 4, 2)) for _ in range(24)]
  # A call holds its thread for a moment longer than its client.
  flags = ["--grpc_max_threads=32"]
  with (
    ModelServer(export, flags, PADDED) as server,
    futures.ThreadPoolExecutor(8) as clients,
  ):
    server.wait()

    def ask(request):
      examples = {"inputs": extras.serialized(request)}
      parsed = server.call(examples, "examples")["predictions"][:, 0]
      try:
        return parsed, server.call(request)["predictions"][:, 0]
      except grpc.RpcError as error:
        return parsed, SessionError(error.code().value[0], error.details())

    parsed, sent = zip(*clients.map(ask, requests))
  expected = [alone(session, request) for request in requests]
  check(parsed, expected, [])
  check(sent, expected, [INVALID])
  assert any(isinstance(answer, SessionError) for answer in sent)
