"""The lag of deltas: from the end of a training step to the changed prediction at a running server.

Trains a table in this process, serves its base, and keeps the server up to date with `tfps sync`.
One step changes so many rows; then a delta is exported, and the lag ends when the server predicts
what the trainer does. Meanwhile another process asks for predictions at a steady rate: its p99
latency while a delta is sent is compared with that of the quiet seconds before each step, in the
same run. All of these processes share this machine. The server is `tensorflow_model_server` where
that is on the PATH, otherwise examples/online/server.py, a small one in Python around the same
loader.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

import harness
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MF_DIM = 8
BAG = 100  # feasigns of an example when rows are changed
ASKED = 16  # feasigns of an example, and examples of a request, when predictions are timed
TOLERANCE = 1e-5


def main():
  parser = harness.parser(__doc__)
  parser.add_argument(
    "--rows", type=int, nargs="+", default=[10_000, 1_000_000], help="changed rows"
  )
  parser.add_argument("--lags", type=float, nargs="+", default=[5, 60], help="goals in seconds")
  parser.add_argument("--slowdown", type=float, default=2, help="goal: p99 over that of quiet")
  parser.add_argument("--repeats", type=int, nargs="+", default=[20, 5], help="deltas of each size")
  parser.add_argument("--quiet", type=float, default=5, help="quiet seconds before each step")
  parser.add_argument("--rate", type=float, default=100, help="predictions asked for per second")
  parser.add_argument("--load", help=argparse.SUPPRESS)
  flags = parser.parse_args()
  if flags.load:
    return load(flags.load, max(flags.rows), flags.rate)
  if not len(flags.rows) == len(flags.lags) == len(flags.repeats) or min(flags.rows) < BAG:
    parser.error(f"--rows ({BAG} or more), --lags and --repeats need as many numbers each.")

  from tests.model_server import ModelServer

  with tempfile.TemporaryDirectory(prefix="delta_lag-") as folder:
    trainer = Trainer(folder, max(flags.rows))
    with ModelServer(folder) as server, Sync(folder, server) as sync, Load(server, flags) as asked:
      measured = [
        (rows, [measure(trainer, server, sync, rows, flags.quiet) for _ in range(repeats)])
        for rows, repeats in zip(flags.rows, flags.repeats)
      ]
      latencies = asked.finish()
  results, goals = [], []
  for (rows, deltas), limit in zip(measured, flags.lags):
    quiet, busy = (p99(latencies, [delta[when] for delta in deltas]) for when in ("quiet", "busy"))
    lag = harness.spread([delta["lag"] for delta in deltas])
    slowdown = busy[0] / quiet[0]
    results.append(
      {
        "changed_rows": rows,
        "lag_s": lag,
        "export_s": harness.spread([delta["export"] for delta in deltas]),
        "sending_s": harness.spread([delta["busy"][1] - delta["busy"][0] for delta in deltas]),
        "quiet_p99_ms": quiet[0],
        "sending_p99_ms": busy[0],
        "slowdown": slowdown,
        "quiet_requests": quiet[1],
        "sending_requests": busy[1],
      }
    )
    goals.append(harness.Goal(f"longest lag of {rows:,} rows", lag.high, limit, "s"))
    goals.append(harness.Goal(f"p99 over quiet, {rows:,} rows", slowdown, flags.slowdown))
  title = f"Deltas to a running server ({ModelServer.PROGRAM})"
  return harness.report(flags, title, results, goals)


class Trainer:
  """A trained table, its base and its deltas.

  Args:
    folder: the export folder.
    rows: number of feasigns.
  """

  def __init__(self, folder, rows):
    import tensorflow as tf
    import tf_keras as keras

    import tfps

    keras.utils.set_random_seed(1)
    accessor = tfps.CtrAccessor(
      create_threshold=0.0, base_update_threshold=0.0, delta_update_threshold=0.05
    )
    table = tfps.FeasignTable("ctr", mf_dim=MF_DIM, accessor=accessor)
    inputs = {"item": keras.Input([None], dtype=tf.int64, name="item")}
    embedded = tfps.Embedding(table, ["item"])(inputs)
    hidden = keras.layers.Dense(64, "relu")(keras.layers.Flatten()(embedded.mf))
    logit = embedded.lr_logit + keras.layers.Dense(1)(hidden)
    self.model = tfps.Model(inputs, tf.sigmoid(logit))
    self.model.compile("adam", "binary_crossentropy")
    raw = tfps.data.RawInputs({"item": tf.TensorSpec([None, None], tf.int64)}, dict)
    self._rng = np.random.default_rng(1)
    self._rows = rows
    self.step(self.draw(rows))
    self._exporter = tfps.export.Exporter(self.model, folder, raw)
    self._exporter.base()

  def draw(self, rows):
    """int64 array: so many feasigns, each once."""
    return 1 + self._rng.permutation(self._rows)[: rows - rows % BAG]

  def step(self, feasigns):
    """Changes the rows of feasigns."""
    labels = self._rng.integers(0, 2, [len(feasigns) // BAG, 1]).astype(np.float32)
    self.model.train_on_batch({"item": feasigns.reshape(-1, BAG)}, labels)
    return feasigns

  def delta(self):
    self._exporter.delta()


class Sync:
  """`tfps sync` in a process of its own."""

  def __init__(self, folder, server):
    command = [sys.executable, "-m", "tfps", "sync", folder, f"--server={server.address}"]
    self._process = subprocess.Popen(
      [*command, "--poll=0.1"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    self._lines = iter(self._process.stdout)
    next(self._lines)  # It says which base is served.

  def sent(self, rows):
    """(begin, end) of the sending of the next delta, of so many rows, on the wall clock."""
    for line in self._lines:
      if found := re.search(r"([\d,]+) entries in ([\d.]+) s", line):
        end = time.time()
        if int(found[1].replace(",", "")) != rows:
          raise RuntimeError(f"{rows} rows changed, but tfps sync said: {line}")
        return end - float(found[2]), end
    raise RuntimeError("tfps sync has ended")

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self._process.terminate()
    self._process.communicate()


class Load:
  """A process that asks for predictions at a steady rate."""

  def __init__(self, server, flags):
    command = [sys.executable, __file__, f"--load={server.address}", f"--rate={flags.rate}"]
    command += ["--rows", str(max(flags.rows))]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    self._process = subprocess.Popen(command, **pipes)
    self._process.stdout.readline()

  def finish(self):
    """float array [requests, 2]: when each began, and the seconds that it took."""
    out, _ = self._process.communicate()
    return np.array(json.loads(out))

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    if self._process.poll() is None:
      self._process.kill()
      self._process.communicate()


def load(address, rows, rate):
  """What the process of `Load` does until its stdin is closed."""
  import grpc
  import tensorflow as tf
  from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

  stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(address))
  rng = np.random.default_rng(2)
  requests = []
  for _ in range(50):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ctr"
    feasigns = tf.make_tensor_proto(rng.integers(1, rows + 1, [ASKED, ASKED]))
    request.inputs["item"].CopyFrom(feasigns)
    requests.append(request)
  stub.Predict(requests[0], 60, wait_for_ready=True)
  closed = threading.Event()
  threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
  print("ready", flush=True)
  taken, due = [], time.time()
  while not closed.is_set():
    # From when it was due: one that waits for the one before has waited.
    stub.Predict(requests[len(taken) % len(requests)], 60)
    taken.append((due, time.time() - due))
    due += 1 / rate
    time.sleep(max(0, due - time.time()))
  json.dump(taken, sys.stdout)
  return 0


def measure(trainer, server, sync, rows, quiet_seconds):
  """One step, its delta, and its way; a dict of seconds and of (begin, end) on the wall clock."""
  began_quiet = time.time()
  time.sleep(quiet_seconds)
  quiet = (began_quiet, time.time())
  feasigns = trainer.draw(rows)
  some = {"item": feasigns[-BAG:].reshape(1, -1)}
  before = server.call(some)["predictions"]
  trainer.step(feasigns)
  ended = time.time()
  trainer.delta()
  exported = time.time()
  expected = trainer.model.predict_on_batch(some)
  if np.abs(expected - before).max() < 10 * TOLERANCE:
    raise RuntimeError("the step changed too little to be seen")
  while np.abs(server.call(some)["predictions"] - expected).max() > TOLERANCE:
    if time.time() - ended > 300:
      raise RuntimeError("the server does not predict what the trainer does")
    time.sleep(0.01)
  arrived = time.time()
  return {
    "quiet": quiet,
    "lag": arrived - ended,
    "export": exported - ended,
    "busy": sync.sent(len(feasigns)),
  }


def p99(latencies, windows):
  """(ms that 99 percent of the requests under way in windows stay below, how many these are)."""
  begun, ended = latencies[:, 0], latencies.sum(axis=1)
  within = np.any([(begun < end) & (ended > begin) for begin, end in windows], axis=0)
  if not within.any():
    raise RuntimeError("no prediction was asked for while deltas were sent: raise --rate")
  return 1000 * float(np.quantile(latencies[within, 1], 0.99)), int(within.sum())


if __name__ == "__main__":
  sys.exit(main())
