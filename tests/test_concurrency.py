"""Several threads on one table: nothing lost, nothing twice, no row seen half written."""

import functools
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance import Pair
from tests.engines import ENGINES
from tests.patience import wait_until
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


def until_first_ends(running, *functions):
  """The same, where `running` is cleared when any of the functions has ended, in whatever way."""

  def ending(function):
    try:
      function()
    finally:
      running.clear()

  run_threads(*(functools.partial(ending, function) for function in functions))


def eighths(rng, shape):
  """Numbers whose sums float32 holds exactly, in any order."""
  return (rng.integers(-32, 33, shape) / 8).astype(np.float32)


@pytest.mark.parametrize("num_shards", [1, 7, 1024])
def test_pushes_of_the_same_keys_add_up_exactly(engine_class, num_shards):
  rng = np.random.default_rng(num_shards)
  keys = np.arange(1, 101)
  slots = keys % 5
  repeats = 400  # long pushes, so that they meet
  pair = Pair(
    engine_class,
    num_shards=num_shards,
    rtol=0,
    atol=0,
    gradient_scale="sum",
    lr=EXACT_SGD,
    mf=EXACT_SGD,
    mf_init_range=0.0,
    accessor=Accessor(nonclk_coeff=0.125, create_threshold=0),
  )
  pair.push(keys, slots, np.ones(100), np.zeros(100), eighths(rng, [100, 9]))  # admits all

  def draw():
    order = np.concatenate([rng.permutation(100) for _ in range(repeats)])
    n = len(order)
    return order, rng.integers(0, 4, n), rng.integers(0, 2, n), eighths(rng, [n, 9])

  def push_all(drawn):
    for order, show, click, gradients in drawn:
      pair.engine.push(keys[order], slots[order], show, click, gradients)

  pushes = [[draw() for _ in range(6)] for _ in range(3)]
  run_threads(*(lambda mine=mine: push_all(mine) for mine in pushes))

  for drawn in pushes:
    for order, show, click, gradients in drawn:
      # All is linear and exact, so the sums do the same as their parts.
      by_key = np.argsort(order, kind="stable")
      pair.reference.push(
        keys,
        slots,
        *(
          values[by_key].reshape([100, repeats, -1]).sum(axis=1).squeeze()
          for values in (show, click, gradients)
        ),
      )
  pair.check_rows(keys)
  pair.close()


@given(data=st.data())
def test_any_pushes_in_any_order_add_up_exactly(engine_class, data):
  pair = Pair(
    engine_class,
    mf_dim=2,
    num_shards=2,
    rtol=0,
    atol=0,
    gradient_scale="sum",
    lr=EXACT_SGD,
    mf=EXACT_SGD,
    mf_init_range=0.0,
    accessor=Accessor(create_threshold=0),
  )
  keys = list(range(1, 9))
  pair.push(keys, [1] * 8, [1.0] * 8, [0.0] * 8, np.zeros([8, 3]))
  gradient = st.integers(-64, 64).map(lambda i: i / 8) | st.just(np.nan)
  row = st.tuples(
    st.sampled_from([*keys, 0]),
    st.integers(0, 8),
    st.integers(0, 8),
    st.tuples(gradient, gradient, gradient),
  )
  pushes = data.draw(
    st.lists(
      st.lists(st.lists(row, min_size=1, max_size=8), min_size=1, max_size=4),
      min_size=2,
      max_size=4,
    )
  )
  columns = [[arrays(push) for push in thread_pushes] for thread_pushes in pushes]
  run_threads(*(lambda mine=mine: [pair.engine.push(*push) for push in mine] for mine in columns))
  for thread_pushes in columns:
    for push in thread_pushes:
      pair.reference.push(*push)
  pair.check_all()
  pair.close()


def arrays(rows):
  keys, show, click, gradients = zip(*rows)
  return (
    np.array(keys),
    np.ones(len(keys), np.int32),
    np.float32(show) / 4,
    np.float32(click) / 4,
    np.float32(gradients),
  )


@pytest.mark.parametrize("name", ["adagrad", "std_adagrad", "adam", "ftrl"])
def test_threads_with_keys_of_their_own_leave_the_rows_of_the_reference(engine_class, name):
  pair = Pair(
    engine_class,
    num_shards=3,
    lr=Optimizer(name),
    mf=Optimizer(name),
    mf_init_range=0.5,
    accessor=Accessor(create_threshold=1.0),
  )
  pushes = []
  for thread in range(4):
    rng = np.random.default_rng(thread)
    keys = np.arange(1, 101) * 4 + thread  # in the same shards as the other threads' keys
    pushes.append(
      [
        (
          some,
          some % 3,
          rng.integers(1, 4, 400).astype(np.float32),
          rng.integers(0, 2, 400).astype(np.float32),
          rng.normal(size=[400, 9]).astype(np.float32),
        )
        for some in (rng.choice(keys, 400) for _ in range(3))
      ]
    )
  run_threads(*(lambda mine=mine: [pair.engine.push(*push) for push in mine] for mine in pushes))
  for thread_pushes in pushes:
    for push in thread_pushes:
      pair.reference.push(*push)
  assert pair.reference.statistics()["admitted"] > 300
  pair.check_all()
  pair.close()


@pytest.mark.parametrize("num_shards", [1, 64])
def test_no_row_is_ever_seen_half_written(engine_class, num_shards):
  # Every push adds one show and moves every weight by -step; mf has missed one step, that of the
  # push that created it. So a whole row has k shows, lr_w = -k step and mf_w = -(k - 1) step. Each
  # day's end evicts all. Rows are long and keys repeat, so that the threads meet in a row.
  step = np.float32(2.0**-14)
  mf_dim = 1500
  sgd = Optimizer("sgd", learning_rate=float(step))
  engine = engine_class(
    mf_dim=mf_dim,
    num_shards=num_shards,
    gradient_scale="sum",
    lr=sgd,
    mf=sgd,
    mf_init_range=0.0,
    accessor=Accessor(nonclk_coeff=1.0, create_threshold=0.0, delete_threshold=1e9),
  )
  keys = np.tile(np.arange(1, 9), 30)
  ones = np.ones(len(keys))
  gradients = np.ones([len(keys), 1 + mf_dim], np.float32)
  running = threading.Event()
  running.set()
  seen = dict(absent=0, whole=0, evicted=0)

  def check_whole(floats):
    lr, mf = floats[:, 0], floats[:, 1:]
    np.testing.assert_array_equal(mf.min(axis=1), mf.max(axis=1))
    np.testing.assert_array_equal(mf[:, 0], np.where(lr == 0, 0, lr + step))

  def push():
    for _ in range(60):
      engine.push(keys, ones, ones, 0 * ones, gradients)
    while running.is_set() and not all(seen.values()):
      engine.push(keys, ones, ones, 0 * ones, gradients)

  def pull():
    while running.is_set():
      pulled = engine.pull(keys)
      check_whole(pulled)
      seen["whole"] += np.count_nonzero(pulled[:, 0])
      seen["absent"] += np.count_nonzero(pulled[:, 0] == 0)

  def inspect():
    while running.is_set():
      rows = engine.inspect(keys)
      check_whole(rows.floats)
      np.testing.assert_array_equal(rows.statistics[:, 0], -rows.floats[:, 0] / step)
      np.testing.assert_array_equal(rows.statistics[:, 2], rows.statistics[:, 0])

  def end_days():
    day = 0
    while running.is_set():
      seen["evicted"] += engine.end_of_day(day)
      day += 1
      time.sleep(0.002)

  until_first_ends(running, push, push, pull, inspect, end_days)
  assert all(seen.values()), seen
  engine.close()


def test_days_end_while_others_pull_and_push(engine_class):
  # Some feasigns are pushed all the time, the others only before: they went unseen for 1 to 10
  # days, and leave one after the other, while they are pulled.
  rng = np.random.default_rng(6)
  accessor = Accessor(
    create_threshold=0.0, delete_threshold=-1.0, decay_rate=1.0, delete_after_unseen_days=12
  )
  pair = Pair(
    engine_class,
    num_shards=16,
    rtol=0,
    atol=0,
    gradient_scale="sum",
    mf_init_range=0.0,
    lr=EXACT_SGD,
    mf=EXACT_SGD,
    accessor=accessor,
  )
  n = 400
  pushed, aging = np.arange(1, n + 1), np.arange(n + 1, 11 * n + 1)
  for day in range(10):
    keys = aging[day * n : (day + 1) * n]
    for _ in range(2):  # The first admits, the second steps.
      pair.push(keys, keys % 3, np.ones(n), np.zeros(n), eighths(rng, [n, 9]))
    pair.end_of_day(day)
  pair.push(pushed, pushed % 3, np.ones(n), np.zeros(n), eighths(rng, [n, 9]))
  rows = pair.reference.pull(aging)
  running = threading.Event()
  running.set()
  gradients = [[eighths(rng, [n, 9]) for _ in range(30)] for _ in range(2)]
  seen = dict(there=0, gone=0)

  def push(thread):
    for gradient in gradients[thread]:
      pair.engine.push(pushed, pushed % 3, np.ones(n), np.zeros(n), gradient)
      time.sleep(0.002)

  def pull():
    try:
      while running.is_set():
        pulled = pair.engine.pull(aging)
        there = pulled.any(axis=1)
        np.testing.assert_array_equal(pulled[there], rows[there])
        seen["there"] += np.count_nonzero(there)
        seen["gone"] += np.count_nonzero(~there)
    finally:
      running.clear()

  evicted = []

  def end_days():
    try:
      wait_until(lambda: seen["there"], running.is_set)
      for day in range(10, 20):
        for shards in [(0, 5), (5, 16)]:
          due = pair.engine.evictable(day, *shards)
          left = pair.engine.end_of_day_rows(day, due.keys, *shards)
          np.testing.assert_array_equal(np.sort(left.keys), np.sort(due.keys))
          evicted.extend(left.keys)
        time.sleep(0.005)
      wait_until(lambda: seen["gone"], running.is_set)
    finally:
      running.clear()

  run_threads(lambda: push(0), lambda: push(1), pull, end_days)
  for day in range(10, 20):
    pair.reference.end_of_day(day)
  # All is linear and exact, so the sum of the pushes does the same as they did.
  total = np.sum(gradients, axis=(0, 1))
  pair.reference.push(pushed, pushed % 3, np.full(n, 60), np.zeros(n), total)
  pair.push(pushed, pushed % 3, np.ones(n), np.zeros(n), eighths(rng, [n, 9]))
  assert sorted(set(aging) - set(pair.reference.keys())) == sorted(evicted)
  assert 7 * n <= len(evicted) < 10 * n and all(seen.values()), seen
  pair.reference.counters.update(
    {name: pair.engine.statistics()[name] for name in ("pulled_keys", "pushed_keys")}
  )
  pair.check_all()
  pair.close()


def test_what_is_evicted_and_what_stays_is_all_that_was_pushed(engine_class):
  # Each feasign gets one show in its life, while days end: each is evicted once or still there.
  engine = engine_class(
    mf_dim=4, num_shards=16, accessor=Accessor(create_threshold=0.0, delete_threshold=1e9)
  )
  pushes, n = 15, 5000
  running = threading.Event()
  running.set()
  evicted = []

  def push(thread):
    for i in range(pushes):
      keys = 1 + np.arange(n) + n * (pushes * thread + i)
      engine.push(keys, np.ones(n), np.ones(n), np.zeros(n), np.ones([n, 5]))

  def end_days():
    day = 0
    while running.is_set():
      evicted.append(engine.end_of_day(day))
      day += 1

  ender = threading.Thread(target=end_days)
  ender.start()
  try:
    run_threads(lambda: push(0), lambda: push(1), lambda: push(2))
    wait_until(lambda: sum(evicted), ender.is_alive)
  finally:
    running.clear()
    ender.join()
  statistics = engine.statistics()
  assert sum(evicted) + statistics["rows"] == 3 * pushes * n
  assert statistics["show"] == statistics["admitted"] == statistics["rows"]
  assert sum(evicted) > 0
  engine.close()
