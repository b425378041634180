"""Deltas on their way: real servers that are killed, cut off, wrong, or asked by two at once."""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import tfps
from examples.online import server as stand_in
from tests import commands, cut_connection, exports
from tests.model_server import MODEL, ModelServer
from tests.patience import PATIENCE
from tfps.delivery import catch_up as catch_up_lib
from tfps.delivery.channel import open_channel
from tfps.delivery.replica import Replica
from tfps.export.artifact import ARTIFACTS
from tfps.export.delta_folder import ExportFolder

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORDS = np.array([f"w{i}" for i in range(60)])
DELTAS = 3


def train(model, rng):
  cities = {"city": tf.constant(WORDS[rng.integers(0, 60, 64)])}
  model.train_on_batch(cities, rng.binomial(1, 0.4, (64, 1)).astype(np.float32))


@pytest.fixture(scope="module", name="made")
def _made(tmp_path_factory):
  """An export folder with base 1 and its deltas; base 2 and its one delta are beside it."""
  folder = tmp_path_factory.mktemp("made")
  rng = np.random.default_rng(0)
  accessor = tfps.CtrAccessor(
    create_threshold=2.0, base_update_threshold=0.2, delta_update_threshold=0.0, delta_keep_days=1
  )
  model, table = exports.make_small_model(accessor=accessor)
  exporter = tfps.export.Exporter(model, folder / "export", exports.SMALL_RAW)
  exporter.base()
  for day in range(1, DELTAS + 1):
    train(model, rng)
    table.end_of_day(day)
    exporter.delta(step=100 * day)
  train(model, rng)
  exporter.base()
  exporter.delta()
  (folder / "later").mkdir()
  (folder / "export" / "base" / "2").rename(folder / "later" / "base")
  (folder / "export" / "delta" / "2").rename(folder / "later" / "delta")
  return folder


@pytest.fixture(name="folder")
def _folder(made, tmp_path):
  """A copy of the export folder."""
  shutil.copytree(made / "export", tmp_path / "export")
  return tmp_path / "export"


@pytest.fixture(scope="module", name="expected")
def _expected(made):
  """What a session predicts that got all deltas in one go."""
  session = tfps.export.SavedModelSession(made / "export" / "base" / "1")
  folder = ExportFolder(made / "export")
  for sequence in range(DELTAS):
    for chunk in folder.next_delta(1, sequence).chunks(0, 1 << 20):
      session.run(chunk.inputs(), "apply_delta")
  predictions = session.run({"city": WORDS})["predictions"]
  session.close()
  return predictions


@pytest.fixture(scope="module", name="servers")
def _servers(made):
  with ModelServer(made / "export") as first, ModelServer(made / "export") as second:
    first.wait()
    second.wait()
    yield first, second


@pytest.fixture(name="server")
def _server(servers):
  """One that holds the base alone."""
  for server in servers:
    if server.status() == (0, 0):
      return server
  for server in servers:
    server.kill()
    server.start()
  for server in servers:
    server.wait()
  return servers[0]


def copy_later_base(made, folder):
  """Puts base 2 and its delta where an exporter would."""
  shutil.copytree(made / "later" / "delta", folder / "delta" / "2")
  shutil.copytree(made / "later" / "base", folder / "base" / "writing-2")
  (folder / "base" / "writing-2").rename(folder / "base" / "2")


def predict(server, version=None):
  return server.call({"city": WORDS}, version=version)["predictions"]


def push(capsys, folder, *servers, **options):
  options = {"timeout": PATIENCE} | options
  flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
  addresses = [f"--server={getattr(server, 'address', server)}" for server in servers]
  return commands.run(capsys, "push-delta", folder, *addresses, *flags)


class Listener:
  """Does something when so many chunks have been sent."""

  def __init__(self, after=None, action=None):
    self.chunks, self.applied_deltas = [], []
    self._after, self._action = after, action

  def begun(self, delta, entries):
    pass

  def sent(self, chunk):
    self.chunks.append(chunk)
    if len(self.chunks) == self._after:
      self._action()

  def applied(self, version, delta):
    self.applied_deltas.append(delta.sequence)


def catch_up(address, folder, chunk_bytes, listener):
  """{version: (sequence, position)} of a replica that got what it missed."""
  replica = Replica(address, open_channel(address), MODEL, PATIENCE)
  try:
    reached = catch_up_lib.catch_up(replica, ExportFolder(folder), chunk_bytes, listener)
    return {version: status[:2] for version, status in reached.items()}
  finally:
    replica.close()


def rewrite_manifest(path, **changes):
  ARTIFACTS.replace(str(path), dataclasses.replace(ARTIFACTS.read(str(path)), **changes))


def test_the_server_refuses_another_lineage_and_base(server, folder, capsys):
  before = predict(server)
  rewrite_manifest(folder / "delta" / "1" / "1", lineage="another")
  code, out, err = push(capsys, folder, server)
  assert (code, out) == (1, "") and err.count("\n") == 1
  assert f"{server.address} refused: this server holds base 1 of lineage" in err
  assert "the chunk is of another 1." in err
  rewrite_manifest(folder / "delta" / "1" / "1", base=7)
  assert "refused: this server holds base 1" in push(capsys, folder, server)[2]
  np.testing.assert_array_equal(predict(server), before)


def test_damaged_and_missing_deltas_are_named(server, folder, capsys):
  data = next((folder / "delta" / "1" / "1").glob("rows.data-*"))
  content = bytearray(data.read_bytes())
  content[3] ^= 1
  data.write_bytes(content)
  code, _, err = push(capsys, folder, server)
  assert code == 1 and f"{data} is truncated or was changed" in err
  assert server.status() == (0, 0)
  shutil.rmtree(folder / "delta" / "1" / "1")
  assert "has delta 2 but not 1, which is due" in push(capsys, folder, server)[2]
  assert "has no folder 'base'" in push(capsys, folder / "delta", server)[2]


def test_replicas_get_what_they_miss_and_only_that(servers, server, made, expected, capsys):
  (other,) = set(servers) - {server}
  before = predict(server)
  catch_up(other.address, made / "export", 100, Listener())
  code, out, err = push(capsys, made / "export", *servers)
  assert (code, err) == (0, "")
  assert f"{server.address}: base 1 is at delta {DELTAS}; sent {DELTAS} now" in out
  assert f"{other.address}: base 1 is at delta {DELTAS}; sent 0 now, 0 entries." in out
  assert np.max(np.abs(before - expected)) > 0.01
  for replica in servers:
    np.testing.assert_array_equal(predict(replica), expected)


def test_a_server_that_is_killed_amid_a_delta_is_brought_up_to_date(server, made, expected):
  def restart():
    assert server.status()[1] > 0
    server.kill()
    server.start()

  listener = Listener(9, restart)
  assert catch_up(server.address, made / "export", 40, listener) == {1: (DELTAS, 0)}
  assert listener.applied_deltas == list(range(1, DELTAS + 1))
  assert listener.chunks[9].position == 0
  np.testing.assert_array_equal(predict(server), expected)


def test_a_lost_connection_resumes(server, made, expected):
  with cut_connection.Proxy(server.address) as proxy:
    listener = Listener(9, proxy.cut)
    assert catch_up(proxy.address, made / "export", 40, listener) == {1: (DELTAS, 0)}
    assert proxy.connections > 1
  first = [chunk for chunk in listener.chunks if chunk.sequence == 1]
  assert len({chunk.position for chunk in first}) == len(first)  # each once
  np.testing.assert_array_equal(predict(server), expected)


def send_at_once(server, made):
  """Three senders with chunks of their own."""
  with futures.ThreadPoolExecutor(3) as threads:
    sent = [
      threads.submit(catch_up, server.address, made / "export", chunk_bytes, Listener())
      for chunk_bytes in (50, 90, 1000)
    ]
  for one in sent:
    one.result()


def test_two_senders_with_chunks_of_their_own(server, made, expected):
  send_at_once(server, made)
  assert server.status() == (DELTAS, 0)
  np.testing.assert_array_equal(predict(server), expected)


# Chunks wait for one another, and a batch of one or two is filled up with copies of a chunk.
JOINING = """
max_batch_size { value: 64 } batch_timeout_micros { value: 20000 } num_batch_threads { value: 4 }
allowed_batch_sizes: 4 allowed_batch_sizes: 64
"""


def test_senders_whose_chunks_the_server_joins(made, expected):
  with ModelServer(made / "export", batching=JOINING) as server:
    server.wait()
    send_at_once(server, made)
    assert server.status() == (DELTAS, 0)
    np.testing.assert_array_equal(predict(server), expected)


def test_what_cannot_be_sent_is_said_and_others_go_on(server, folder, capsys):
  dead = ModelServer.free_address()
  code, out, err = push(capsys, folder, dead, server, timeout=60)
  assert code == 1 and f"{server.address}: base 1 is at delta {DELTAS}" in out
  assert err.startswith(f"tfps: error: {dead} does not answer") and err.count("\n") == 1
  code, out, err = push(capsys, folder, server, model_name="other")
  assert (code, out) == (1, "") and "does not serve model 'other'" in err and err.count("\n") == 1


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_a_client_with_a_certificate_and_two_bases_at_once(made, folder, tmp_path, capsys):
  key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
  command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
  command = [*command.split(), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
  subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
  pair = key.read_bytes(), certificate.read_bytes()
  copy_later_base(made, folder)
  server = grpc.server(futures.ThreadPoolExecutor(2))
  versions = stand_in.Versions(folder / "base", wanted=(1, 2))
  versions.refresh()
  stand_in.add(server, MODEL, versions)
  port = server.add_secure_port(
    "localhost:0", grpc.ssl_server_credentials([pair], pair[1], require_client_auth=True)
  )
  server.start()
  address = f"localhost:{port}"
  try:
    code, _, err = push(capsys, folder, address, ca=certificate, timeout=1)
    assert code == 1 and f"{address} does not answer" in err
    code, out, err = push(capsys, folder, address, ca=certificate, certificate=certificate, key=key)
    assert (code, err) == (0, "") and f"{address}: base 1 is at delta {DELTAS}" in out
    assert f"{address}: base 2 is at delta 1; sent 1 now" in out
  finally:
    server.stop(None).wait()
  code, _, err = push(capsys, folder, address, key=key)
  assert code == 2 and "--certificate and --key need each other" in err


class _Refusing(grpc.ServerInterceptor):
  """A server that has no room for a share of the calls, or says what it is given."""

  def __init__(self, details="Server Threadpool Exhausted"):
    self.refused, self.answered, self.every = 0, 0, 0
    self._details = details

  def intercept_service(self, continuation, details):
    handler = continuation(details)

    def answer(request, context):
      if self.every and (self.refused + self.answered) % self.every:
        self.refused += 1
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, self._details)
      self.answered += 1
      return handler.unary_unary(request, context)

    return grpc.unary_unary_rpc_method_handler(
      answer, handler.request_deserializer, handler.response_serializer
    )


@contextlib.contextmanager
def served_here(base, interceptor=None, wanted=()):
  """Yields the address of the stand-in in this process."""
  server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=filter(None, [interceptor]))
  versions = stand_in.Versions(base, wanted)
  versions.refresh()
  stand_in.add(server, MODEL, versions)
  port = server.add_insecure_port("127.0.0.1:0")
  server.start()
  try:
    yield f"127.0.0.1:{port}"
  finally:
    server.stop(None).wait()


def test_a_busy_server_is_waited_for(folder, capsys):
  busy = _Refusing()
  with served_here(folder / "base", busy) as address:
    busy.every = 3  # Two of three calls are refused.
    code, out, err = push(capsys, folder, address, chunk_bytes=100)
    assert (code, err) == (0, "") and busy.refused > 20
    assert re.search(
      rf"base 1 is at delta {DELTAS}; sent {DELTAS} now, .* busy for [\d.]+ s\.", out
    )
    busy.every = 0
    replica = Replica(address, open_channel(address), MODEL, PATIENCE)
    assert replica.status(1)[:2] == (DELTAS, 0)
    replica.close()


def test_a_server_that_stays_busy_is_named(folder, capsys):
  busy = _Refusing()
  with served_here(folder / "base", busy) as address:
    busy.every = 10**9
    code, out, err = push(capsys, folder, address, timeout=0.3)
    assert (code, out) == (1, "")
    assert err.startswith(f"tfps: error: {address} was busy for 0.3 s (RESOURCE_EXHAUSTED")
    # Waiting does not make a message smaller.
    busy._details = "Received message larger than max (17 vs. 16)"
    assert "failed (RESOURCE_EXHAUSTED: Received message larger" in push(capsys, folder, address)[2]


def test_a_folded_base_gets_the_deltas_of_its_base(made, tmp_path, capsys):
  folder = tmp_path / "export"
  shutil.copytree(made / "export", folder)
  deltas = [str(folder / "delta" / "1" / str(sequence)) for sequence in (1, 2)]
  assert commands.run(capsys, "fold", folder / "base" / "1", *deltas)[0] == 0
  with served_here(folder / "base") as address:
    code, out, err = push(capsys, folder, address)
    assert (code, err) == (0, "")
    assert f"base 1, folded into version 2, is at delta {DELTAS}; sent 1 now" in out
    reply = Replica(address, open_channel(address), MODEL, PATIENCE)
    assert reply.status(2)[:3] == (DELTAS, 0, 1)
    reply.close()


def test_who_is_not_up_to_date_is_told(made, folder, tmp_path, capsys):
  copy_later_base(made, folder)
  with served_here(folder / "base", wanted=(1,)) as address:
    code, out, err = push(capsys, folder, address)
    assert code == 1 and f"base 1 is at delta {DELTAS}; sent {DELTAS} now" in out
    assert f"{address} is not up to date: base 2 is not served there" in err
    assert push(capsys, folder, address, base=1)[0] == 0
    # The folder of another trainer, which has a base of that number, or none.
    rewrite_manifest(folder / "base" / "1", lineage="another")
    assert "is of another: let it load that one" in push(capsys, folder, address)[2]
    for kind in ("base", "delta"):
      shutil.rmtree(folder / kind / "1")
    code, _, err = push(capsys, folder, address)
    assert code == 1 and "has neither the base nor deltas" in err
  # Deltas that are in a folded base alone.
  folded = tmp_path / "folded"
  shutil.copytree(made / "export", folded)
  deltas = [str(folded / "delta" / "1" / str(sequence)) for sequence in (1, 2, 3)]
  assert commands.run(capsys, "fold", folded / "base" / "1", *deltas)[0] == 0
  for path in deltas:
    shutil.rmtree(path)
  with served_here(folded / "base", wanted=(1,)) as address:
    code, _, err = push(capsys, folded, address)
    assert code == 1 and "base 1 is at delta 0, and deltas up to 3 are only in base 2" in err


@given(st.integers(1, 200), st.integers(1, 200), st.data())
def test_chunks_are_bounded_and_go_on_from_anywhere(made, first_bytes, then_bytes, data):
  delta = ExportFolder(made / "export").next_delta(1, data.draw(st.integers(0, DELTAS - 1)))
  whole = list(delta.chunks(0, first_bytes))
  assert whole[-1].last and len(whole[-1].weights) == delta.manifest.weights.size
  some = data.draw(st.integers(0, len(whole) - 1))
  rest = list(delta.chunks(whole[some].position, then_bytes))
  position, keys = 0, []
  for chunk in [*whole[:some], *rest]:
    assert chunk.position == position and (chunk.last == (chunk is rest[-1]))
    size = sum(len(chunk.inputs()[name][0]) for name in ("keys", "rows", "removed"))
    assert size <= max(first_bytes, then_bytes) or chunk.entries == 1
    position += chunk.entries
    keys += [*chunk.keys, *chunk.removed]
  assert position == delta.entries == len(set(keys))


def tfps_process(*arguments):
  paths = [str(ROOT), os.environ.get("PYTHONPATH")]
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
  command = [sys.executable, "-m", "tfps", *map(str, arguments)]
  return subprocess.Popen(
    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def read_until(process, text):
  lines = []
  for line in process.stdout:
    lines.append(line)
    if text in line:
      return line
  raise AssertionError(f"no '{text}' in {lines}; {process.stderr.read()}")


def test_sync_follows_deltas_restarts_and_bases(made, folder, tmp_path, expected):
  later = tmp_path / "delta-3"
  (folder / "delta" / "1" / "3").rename(later)
  with ModelServer(folder) as server:
    server.wait()
    process = tfps_process(
      "sync", folder, f"--server={server.address}", "--poll=0.2",
      f"--tensorboard={tmp_path / 'logs'}", f"--timeout={PATIENCE}",
    )  # fmt: skip
    try:
      assert "lag" in read_until(process, "delta 2 of base 1")
      read_until(process, "serves base 1 at delta 2.")
      later.rename(folder / "delta" / "1" / "3")
      read_until(process, "delta 3 of base 1")
      np.testing.assert_array_equal(predict(server), expected)
      server.kill()
      server.start()
      read_until(process, "delta 3 of base 1")
      np.testing.assert_array_equal(predict(server), expected)
      # A base that is newer, and its delta.
      copy_later_base(made, folder)
      read_until(process, "delta 1 of base 2")
      read_until(process, "serves base 2 at delta 1.")
      assert server.status(2) == (1, 0)
      (note,) = (folder / "served").iterdir()
      assert '"versions": [2]' in note.read_text()
    finally:
      process.send_signal(signal.SIGTERM)
      _out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
  (events,) = (tmp_path / "logs").glob("events*")
  tags = {
    value.tag: tf.make_ndarray(value.tensor)
    for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator()
    for value in tf.compat.v1.Event.FromString(record).summary.value
  }
  assert tags[f"lag_seconds/{server.address}"] > 0
