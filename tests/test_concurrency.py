"""Several threads on one table: nothing lost, nothing twice, no row seen half written."""

import threading

from hypothesis import given, strategies as st
import numpy as np
import pytest

from tests.conformance import Pair
from tests.engines import ENGINES
from tests.reference import Accessor, Optimizer

EXACT_SGD = Optimizer("sgd", learning_rate=2.0**-6, weight_min=-1e6, weight_max=1e6)


@pytest.fixture(params=ENGINES, scope="module")
def engine_class(request):
  return ENGINES[request.param]


def run_threads(*functions):
  """Runs the functions at once, one thread each; raises the first exception of any."""
  errors = []
  barrier = threading.Barrier(len(functions))

  def run(function):
    try:
      barrier.wait()
      function()
    except BaseException as error:  # handed to the caller's thread
      errors.append(error)

  threads = [threading.Thread(target=run, args=(function,)) for function in functions]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  if errors:
    raise errors[0]


def eighths(rng, shape):
  """Numbers whose sums float32 holds exactly, in any order."""
  return (rng.integers(-32, 33, shape) / 8).astype(np.float32)


@pytest.mark.parametrize("num_shards", [1, 7, 1024])
def test_pushes_of_the_same_keys_add_up_exactly(engine_class, num_shards):
  rng = np.random.default_rng(num_shards)
  keys = np.arange(1, 201)
  pair = Pair(engine_class, num_shards=num_shards, rtol=0, atol=0, gradient_scale="sum",
              lr=EXACT_SGD, mf=EXACT_SGD, mf_init_range=0.0, accessor=Accessor(create_threshold=0))
  pair.push(keys, keys % 5, np.ones(200), np.zeros(200), eighths(rng, [200, 9]))  # admits all
  pushes = [[], [], [], []]
  for thread_pushes in pushes:
    for _ in range(40):
      some = rng.permutation(keys)[:150]
      thread_pushes.append((some, some % 5, rng.integers(0, 4, 150).astype(np.float32),
                            rng.integers(0, 2, 150).astype(np.float32), eighths(rng, [150, 9])))
  run_threads(*(lambda mine=mine: [pair.engine.push(*push) for push in mine] for mine in pushes))
  for thread_pushes in pushes:
    for push in thread_pushes:
      pair.reference.push(*push)
  pair.check_all()
  pair.close()


@given(data=st.data())
def test_any_pushes_in_any_order_add_up_exactly(engine_class, data):
  pair = Pair(engine_class, mf_dim=2, num_shards=2, rtol=0, atol=0, gradient_scale="sum",
              lr=EXACT_SGD, mf=EXACT_SGD, mf_init_range=0.0, accessor=Accessor(create_threshold=0))
  keys = list(range(1, 9))
  pair.push(keys, [1] * 8, [1.0] * 8, [0.0] * 8, np.zeros([8, 3]))
  gradient = st.integers(-64, 64).map(lambda i: i / 8) | st.just(np.nan)
  row = st.tuples(st.sampled_from(keys + [0]), st.integers(0, 8), st.integers(0, 8),
                  st.tuples(gradient, gradient, gradient))
  pushes = data.draw(st.lists(
    st.lists(st.lists(row, min_size=1, max_size=8), min_size=1, max_size=4),
    min_size=2, max_size=4))
  columns = [[arrays(push) for push in thread_pushes] for thread_pushes in pushes]
  run_threads(*(lambda mine=mine: [pair.engine.push(*push) for push in mine] for mine in columns))
  for thread_pushes in columns:
    for push in thread_pushes:
      pair.reference.push(*push)
  pair.check_all()
  pair.close()


def arrays(rows):
  keys, show, click, gradients = zip(*rows)
  return (np.array(keys), np.ones(len(keys), np.int32), np.float32(show) / 4, np.float32(click) / 4,
          np.float32(gradients))


@pytest.mark.parametrize("name", ["adagrad", "std_adagrad", "adam", "ftrl"])
def test_threads_with_keys_of_their_own_leave_the_rows_of_the_reference(engine_class, name):
  pair = Pair(engine_class, num_shards=3, lr=Optimizer(name), mf=Optimizer(name), mf_init_range=0.5,
              accessor=Accessor(create_threshold=1.0))
  pushes = []
  for thread in range(4):
    rng = np.random.default_rng(thread)
    keys = np.arange(1, 101) * 4 + thread  # in the same shards as the other threads' keys
    pushes.append([
      (some, some % 3, rng.integers(1, 4, 60).astype(np.float32), rng.integers(0, 2, 60).astype(
        np.float32), rng.normal(size=[60, 9]).astype(np.float32))
      for some in (rng.permutation(keys)[:60] for _ in range(20))])
  run_threads(*(lambda mine=mine: [pair.engine.push(*push) for push in mine] for mine in pushes))
  for thread_pushes in pushes:
    for push in thread_pushes:
      pair.reference.push(*push)
  assert 300 < pair.reference.statistics()["admitted"]
  pair.check_all()
  pair.close()


@pytest.mark.parametrize("num_shards", [1, 64])
def test_no_row_is_ever_seen_half_written(engine_class, num_shards):
  # Every push adds one show and moves every weight by -step; mf has missed one step, that of the
  # push that created it. So a whole row has k shows, lr_w = -k step and mf_w = -(k - 1) step.
  step = 2.0**-14
  mf_dim = 33
  sgd = Optimizer("sgd", learning_rate=step)
  engine = engine_class(
    mf_dim=mf_dim, num_shards=num_shards, gradient_scale="sum", lr=sgd, mf=sgd, mf_init_range=0.0,
    accessor=Accessor(
      nonclk_coeff=1.0, create_threshold=0.0, decay_rate=1.0, delete_threshold=20.0))
  keys = np.arange(1, 33)
  running = threading.Event()
  running.set()
  seen = dict(absent=0, whole=0, evicted=0)

  def check_pulled(pulled):
    present = pulled[:, 0] != 0
    np.testing.assert_array_equal(pulled[~present], np.zeros_like(pulled[~present]))
    np.testing.assert_array_equal(
      pulled[present, 1:], np.repeat(pulled[present, :1] + np.float32(step), mf_dim, axis=1))
    return present

  def push(thread):
    rng = np.random.default_rng(thread)
    try:
      for _ in range(300):
        some = rng.permutation(keys)
        engine.push(some, np.full(32, 1), np.ones(32), np.zeros(32), np.ones([32, 1 + mf_dim]))
    finally:
      running.clear()

  def pull():
    while running.is_set():
      present = check_pulled(engine.pull(np.tile(keys, 8)))
      seen["whole"] += present.sum()
      seen["absent"] += (~present).sum()

  def inspect():
    while running.is_set():
      rows = engine.inspect(keys)
      check_pulled(rows.floats)
      np.testing.assert_array_equal(rows.statistics[:, 0], -rows.floats[:, 0] / step)
      np.testing.assert_array_equal(rows.statistics[:, 2], rows.statistics[:, 0])

  def end_days():
    day = 0
    while running.is_set():
      seen["evicted"] += engine.end_of_day(day)
      day += 1

  run_threads(lambda: push(1), lambda: push(2), pull, inspect, end_days)
  assert seen["whole"] and seen["evicted"], seen
  rows = engine.inspect(keys)
  assert engine.statistics()["show"] + 0 == rows.statistics[:, 0].sum()
  engine.close()


def test_what_is_evicted_and_what_stays_are_all_the_shows(engine_class):
  # Each feasign gets one show in its life, while days end: each is evicted once or still there.
  engine = engine_class(
    mf_dim=4, num_shards=16, accessor=Accessor(create_threshold=0.0, delete_threshold=1e9))
  running = threading.Event()
  running.set()
  evicted = []

  def push(thread):
    for i in range(40):
      keys = np.arange(1, 501) + 500 * (40 * thread + i)
      engine.push(keys, np.ones(500), np.ones(500), np.zeros(500), np.ones([500, 5]))

  def end_days():
    day = 0
    while running.is_set():
      evicted.append(engine.end_of_day(day))
      day += 1

  ender = threading.Thread(target=end_days)
  ender.start()
  try:
    run_threads(lambda: push(0), lambda: push(1), lambda: push(2))
  finally:
    running.clear()
    ender.join()
  statistics = engine.statistics()
  assert sum(evicted) + statistics["rows"] == 3 * 40 * 500
  assert statistics["show"] == statistics["admitted"] == statistics["rows"]
  assert sum(evicted) > 0
  engine.close()
