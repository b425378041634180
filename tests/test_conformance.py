"""One suite over every engine: whatever is done to a table, it stays what the reference is."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import stateful
from hypothesis import strategies as st

from tests import reference
from tests.conformance import EXTREME_KEYS, Pair
from tests.engines import ENGINES
from tests.reference import Accessor, Optimizer, Policy

OPTIMIZERS = ["sgd", "adagrad", "std_adagrad", "adam", "ftrl"]
# Few keys, so that operations meet on them; the middle ones share nothing but their shards.
KEYS = EXTREME_KEYS + [reference.splitmix64(i) - 2**63 for i in range(8)]
# Thresholds that a handful of pushes and days crosses in both directions, or meets exactly.
ACCESSOR = Accessor(
  nonclk_coeff=0.125,
  create_threshold=0.5,
  delete_threshold=0.125,
  delete_after_unseen_days=2,
  decay_rate=0.75,
)

SLOTS = [1, 1, 1, 2, 2**31 - 1]

READ_KEYS = [key for key in KEYS if key != reference.PADDING and key not in reference.RESERVED]

keys_ = st.sampled_from(KEYS)
quarters = st.integers(-16, 16).map(lambda quarter: quarter / 4)
finite_counts = st.sampled_from([0.0, 0.0625, 0.25, 1.0, 1.0, 2.0, 3.7, -1.0])
counts = finite_counts | finite_counts | finite_counts | st.sampled_from([np.nan, np.inf])
usual = st.floats(-4, 4, width=32)
gradients = usual | usual | usual | st.sampled_from([0.0, 50.0, -1e-20, 1e25, np.nan, -np.inf])


@pytest.fixture(params=ENGINES, scope="module")
def engine_class(request):
  return ENGINES[request.param]


def optimizer(name, **settings):
  """A setting in which a few steps matter, and some end at the limits."""
  return Optimizer(
    name,
    **dict(
      dict(
        learning_rate=0.3,
        alpha=0.4,
        beta=0.5,
        l1=0.3,
        l2=0.1 if name == "ftrl" else 0.0,
        initial_g2sum=2.0,
        weight_min=-1.5,
        weight_max=1.25,
      ),
      **settings,
    ),
  )


class TableMachine(stateful.RuleBasedStateMachine):
  """Random operations on both tables; subclasses give `engine_class` and `settings`."""

  def __init__(self):
    super().__init__()
    self.pair = Pair(self.engine_class, **self.settings)
    self.day = 0

  def teardown(self):
    self.pair.check_all(KEYS)
    self.pair.close()

  @stateful.rule(data=st.data(), keys=st.lists(keys_, max_size=12))
  def push(self, data, keys):
    n = len(keys)
    slots = data.draw(st.lists(st.sampled_from(SLOTS), min_size=n, max_size=n))
    show, click = (data.draw(st.lists(counts, min_size=n, max_size=n)) for _ in range(2))
    width = self._draw_width(data)
    # One gradient in full; the others are it, turned round: as varied, and quicker to draw.
    gradient = np.array(data.draw(st.lists(gradients, min_size=width, max_size=width)), np.float32)
    finite = np.where(np.isfinite(gradient), gradient, 0.5)
    rows = [np.roll(finite, i) for i in range(n)]
    if n:
      rows[data.draw(st.integers(0, n - 1))] = gradient  # perhaps with a NaN or an infinity
    frozen = None
    if data.draw(st.integers(0, 3)) == 0 and np.isfinite([show, click]).all():
      frozen = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    self.pair.push(keys, slots, show, click, rows, frozen)

  @stateful.rule(data=st.data(), keys=st.lists(st.sampled_from(READ_KEYS), max_size=16))
  def push_read(self, data, keys):
    """Slots that read the rows of others, in one message or accumulated; sums are exact."""
    n = len(keys)
    draw = lambda values: data.draw(st.lists(st.sampled_from(values), min_size=n, max_size=n))
    show, click = draw([0.0, 0.25, 1.0, 1.0, 2.0, -1.0]), draw([0.0, 0.0, 0.25, 1.0])
    readers, width = draw([0, 0, 1, -2]), self._draw_width(data)
    frozen = draw([False, False, True]) if data.draw(st.booleans()) else [False] * n
    gradient = np.array(data.draw(st.lists(quarters, min_size=width, max_size=width)), np.float32)
    rows = [np.roll(gradient, i) for i in range(n)]
    if n and data.draw(st.integers(0, 3)) == 0:
      rows[-1][:] = data.draw(st.sampled_from([np.nan, np.inf]))
    slots = [SLOTS[key % len(SLOTS)] for key in keys]
    messages = data.draw(st.sampled_from([0, 0, 1, 3]))
    self.pair.push_read(keys, slots, show, click, rows, readers, frozen, messages)

  @stateful.rule(data=st.data(), keys=st.lists(keys_, max_size=12))
  def pull(self, data, keys):
    self.pair.check_pull(keys, self._draw_width(data))

  def _draw_width(self, data):
    widest = 1 + self.pair.engine.mf_dim
    return data.draw(st.sampled_from([widest, widest, 2, (2 + widest) // 2]))

  @stateful.rule(data=st.data(), factor=st.sampled_from([0.0, 0.5, 1.0]))
  def set_learning_rates(self, data, factor):
    rate = st.sampled_from([0.0, 0.125, 0.3])
    policies = 1 + len(self.pair.engine.slots)
    self.pair.set_learning_rates([[data.draw(rate) for _ in "lm"] for _ in range(policies)], factor)

  @stateful.rule(days=st.sampled_from([-1, 0, 1, 1, 1, 3]))
  def end_of_day(self, days):
    self.day += days
    self.pair.end_of_day(self.day)

  @stateful.rule(
    days=st.sampled_from([-1, 0, 1, 1, 1, 3]), first=st.integers(0, 7), count=st.integers(0, 7)
  )
  def end_of_day_in_parts(self, days, first, count):
    self.day += days
    num_shards = self.pair.engine.num_shards
    part = (min(first, num_shards), min(first + count, num_shards))
    self.pair.end_of_day_in_parts(self.day, [part])

  @stateful.invariant()
  def the_rows_are_the_same(self):
    self.pair.check_rows(KEYS)
    self.pair.check_statistics()
    self.pair.check_evictable(self.day)
    self.pair.check_evictable(self.day + 1)


def run_machine(engine_class, **settings):
  machine = type("Machine", (TableMachine,), dict(engine_class=engine_class, settings=settings))
  stateful.run_state_machine_as_test(machine)


@pytest.mark.parametrize(
  "name, gradient_scale, mf_dim",
  list(itertools.product(OPTIMIZERS, ["per_show", "sum"], [1, 8, 17])),
)
def test_any_operations_leave_the_rows_of_the_reference(engine_class, name, gradient_scale, mf_dim):
  run_machine(
    engine_class,
    mf_dim=mf_dim,
    gradient_scale=gradient_scale,
    accessor=ACCESSOR,
    lr=optimizer(name, learning_rate=0.2),
    mf=optimizer(name),
    mf_init_range=0.5,
    seed=3,
    num_shards=7,
  )


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clip", [{"clipnorm": 0.5}, {"clipvalue": 0.25}])
def test_clipped_gradients(engine_class, name, clip):
  run_machine(
    engine_class,
    mf_dim=3,
    accessor=ACCESSOR,
    lr=optimizer(name, **clip),
    mf=optimizer(name, **clip),
    mf_init_range=0.5,
  )


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clip", [{}, {"clipnorm": 0.5}])
def test_l2(engine_class, name, clip):
  run_machine(
    engine_class,
    mf_dim=3,
    accessor=ACCESSOR,
    lr=optimizer(name, l2=0.75, **clip),
    mf=optimizer(name, l2=0.5, **clip),
    mf_init_range=0.5,
  )


@pytest.mark.parametrize("lr, mf", [("ftrl", "adam"), ("adam", "adagrad"), ("std_adagrad", "sgd")])
def test_lr_and_mf_have_each_their_own_optimizer(engine_class, lr, mf):
  run_machine(
    engine_class, mf_dim=3, accessor=ACCESSOR, lr=optimizer(lr), mf=optimizer(mf), mf_init_range=0.5
  )


# Accessors that differ in every number that the table uses.
ACCESSORS = [
  ACCESSOR,
  Accessor(nonclk_coeff=0.5, clk_coeff=0.25, create_threshold=2.0, delete_threshold=0.25),
  Accessor(create_threshold=0.0, delete_threshold=-1.0, delete_after_unseen_days=0),
  Accessor(nonclk_coeff=1.0, create_threshold=1.0, delete_threshold=0.5, decay_rate=0.5),
]


def random_policy(rng):
  lr, mf = rng.choice(OPTIMIZERS, 2)
  return Policy(
    mf_dim=int(rng.choice([1, 2, 5, 8, 11])),
    accessor=ACCESSORS[rng.integers(len(ACCESSORS))],
    lr=optimizer(lr, learning_rate=float(rng.choice([0.1, 0.2]))),
    mf=optimizer(mf, weight_max=float(rng.choice([0.5, 1.25]))),
  )


@pytest.mark.parametrize("seed", range(8))
def test_slots_may_have_policies_of_their_own(engine_class, seed):
  rng = np.random.default_rng(seed)
  table = random_policy(rng)
  run_machine(
    engine_class,
    **vars(table),
    slots={slot: random_policy(rng) for slot in SLOTS[2 + seed % 2 :]},
    gradient_scale=["per_show", "sum"][seed % 2],
    mf_init_range=0.5,
    num_shards=[1, 7][seed // 4],
  )


def random_push(rng, keys, mf_dim):
  n = len(keys)
  show = rng.integers(1, 5, n).astype(np.float32)
  click = rng.binomial(show.astype(int), 0.3).astype(np.float32)
  gradients = rng.normal(size=[n, 1 + mf_dim]).astype(np.float32)
  return keys, 1 + np.abs(keys % 3).astype(np.int32), show, click, gradients


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_many_rows_with_the_default_settings(engine_class, name):
  rng = np.random.default_rng(0)
  keys = rng.integers(-(2**62), 2**62, 300)
  settings = Optimizer(name)
  pair = Pair(engine_class, lr=settings, mf=settings)
  for day in range(6):
    for _ in range(5):
      pair.push(*random_push(rng, rng.permutation(keys)[:200], 8))
    pair.end_of_day(day)
  assert 100 < pair.reference.statistics()["admitted"] <= 300
  pair.check_all()
  pair.close()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_huge_gradients_never_leave_a_weight_that_is_not_a_number(engine_class, name):
  largest = np.finfo(np.float32).max
  engine = engine_class(
    accessor=Accessor(create_threshold=0),
    mf_dim=2,
    lr=Optimizer(name, weight_max=5.0),
    mf=Optimizer(name, weight_min=-1.0, weight_max=1.0),
  )
  steps = list(
    itertools.product([1.0, largest, -largest, 1e20, -1e20, 1.0, 0.0, 1e30, -1.0], [1.0, 1e-30])
  )
  for key in range(1, len(steps)):  # each begins with another of the steps
    engine.push([key], [1], [1.0], [0.0], [[0.0] * 3])
    for gradient, show in steps[key:] + steps[:key]:
      engine.push([key], [1], [show], [0.0], [[gradient] * 3])
      lr, *mf = engine.pull([key])[0]
      assert -10 <= lr <= 5 and -1 <= min(mf) <= max(mf) <= 1, (gradient, show)
  engine.close()


def test_initial_mf_depends_on_seed_key_and_dimension_alone(engine_class):
  keys = np.array([1, 2, 3, -1, 2**63 - 1, -(2**63) + 2, 10**15])
  for num_shards, seed, order in [(1, 5, 1), (7, 5, -1), (1024, 5, 1), (1024, 6, 1), (3, 2**62, 1)]:
    pair = Pair(
      engine_class,
      mf_dim=17,
      seed=seed,
      num_shards=num_shards,
      mf_init_range=0.25,
      accessor=Accessor(create_threshold=0),
    )
    pair.push(keys[::order], np.ones(7), np.ones(7), np.zeros(7), np.zeros([7, 18]))
    expected = [reference.initial_mf(seed, int(key), 17, 0.25) for key in keys]
    np.testing.assert_array_equal(pair.engine.pull(keys)[:, 1:], expected)
    pair.close()


@pytest.mark.parametrize("num_shards", [1, 7, 1024])
def test_keys_live_in_their_virtual_shards(engine_class, num_shards):
  keys = np.concatenate([np.arange(1, 2001), -np.arange(1, 501)])
  pair = Pair(engine_class, mf_dim=1, num_shards=num_shards)
  pair.push(keys, np.ones(2500), np.ones(2500), np.zeros(2500), np.zeros([2500, 2]))
  assert sorted(pair.engine.keys()) == sorted(keys)
  for shard in {0, num_shards // 2, num_shards - 1}:
    expected = [key for key in keys if reference.virtual_shard(int(key), num_shards) == shard]
    assert sorted(pair.engine.keys(shard, shard + 1)) == sorted(expected)
  pair.close()


@pytest.mark.parametrize("num_shards", [1, 7, 1024])
def test_growth_and_reuse(engine_class, num_shards):
  rng = np.random.default_rng(1)
  keys = rng.permutation(np.arange(1, 100_001)) * 3
  accessor = Accessor(create_threshold=0.25, delete_threshold=1e9)
  pair = Pair(engine_class, num_shards=num_shards, accessor=accessor, mf_init_range=0.5)
  show = np.where(keys % 2 == 0, 3.0, 1.0).astype(np.float32)  # the even ones are admitted

  def fill(start):
    for i in range(0, len(keys), 30_000):
      part = slice(i, i + 30_000)
      n = len(keys[part])
      pair.engine.push(keys[part] + start, np.full(n, 4), show[part], np.zeros(n), np.zeros([n, 9]))

  fill(0)
  statistics = pair.engine.statistics()
  assert (statistics["rows"], statistics["admitted"]) == (100_000, 50_000)
  assert statistics["show"] == 200_000
  np.testing.assert_array_equal(np.sort(pair.engine.keys()), np.sort(keys))
  sample = keys[::397]
  rows = pair.engine.inspect(sample)
  assert rows.found.all() and (rows.slot == 4).all()
  np.testing.assert_array_equal(rows.statistics[:, 0], show[::397])
  np.testing.assert_array_equal(rows.admitted, sample % 2 == 0)
  for key, pulled in zip(sample, pair.engine.pull(sample)):
    mf = reference.initial_mf(0, int(key), 8, 0.5) if key % 2 == 0 else np.zeros(8)
    np.testing.assert_array_equal(pulled, [0, *mf])
  assert not pair.engine.pull(sample + 1).any() and not pair.engine.inspect(sample + 1).found.any()

  full = statistics["bytes"]
  for day in range(3):
    assert pair.engine.end_of_day(day) == 100_000
    assert pair.engine.statistics()["rows"] == 0 and not pair.engine.keys().size
    assert not pair.engine.pull(sample).any()
    fill(day)  # other keys every day: nothing may depend on their coming back
    statistics = pair.engine.statistics()
    assert (statistics["rows"], statistics["admitted"]) == (100_000, 50_000)
    assert statistics["bytes"] <= full * 1.05
  pair.close()


def test_a_score_that_equals_a_threshold(engine_class):
  accessor = Accessor(
    nonclk_coeff=0.5,
    create_threshold=2.0,
    delete_threshold=1.0,
    decay_rate=0.5,
    delete_after_unseen_days=1,
  )
  pair = Pair(engine_class, mf_dim=1, accessor=accessor)
  show = [1.5, 2.0, 3.5, 4.0, 16.0]
  pair.push([1, 2, 3, 4, 5], [1] * 5, show, [0.0] * 5, np.zeros([5, 2]))
  assert pair.engine.inspect([3, 4]).admitted.tolist() == [False, True]
  for day, kept in enumerate([[2, 3, 4, 5], [4, 5], []]):  # 5 has a score of 2, but went unseen
    pair.end_of_day(day)
    assert sorted(pair.engine.keys()) == kept
    pair.check_all(range(1, 6))
  pair.close()


def test_evicting_some_rows_keeps_the_others(engine_class):
  rng = np.random.default_rng(2)
  pair = Pair(
    engine_class,
    num_shards=7,
    accessor=ACCESSOR,
    lr=optimizer("adam"),
    mf=optimizer("adam"),
    mf_init_range=0.5,
  )
  for day in range(12):
    keys = rng.choice(np.arange(1, 1500), 400, replace=False)
    pair.push(*random_push(rng, keys, 8))
    pair.end_of_day(day)
  assert 300 < len(pair.reference.rows) < 1200
  pair.check_all()
  pair.close()


def test_what_leaves_is_shown_and_only_what_was_announced_leaves(engine_class):
  rng = np.random.default_rng(5)
  pair = Pair(engine_class, num_shards=7, accessor=ACCESSOR)
  for day in range(6):
    pair.push(*random_push(rng, rng.choice(np.arange(1, 1500), 400, replace=False), 8))
    pair.check_evictable(day)
    pair.end_of_day_in_parts(day, [(2, 4), (3, 7)])
  pair.check_all()
  due = pair.engine.evictable(6).keys
  assert len(due) > 50
  kept = [key for key in pair.reference.keys() if key not in due[:20]]
  assert sorted(pair.engine.end_of_day_rows(6, [*due[:20], 10**9]).keys) == sorted(due[:20])
  assert sorted(pair.engine.keys()) == kept
  assert not pair.engine.evictable(6).keys.size and not pair.engine.count_evictable(6)
  pair.close()


@pytest.mark.parametrize("first, last", [(-1, 3), (3, 2), (0, 8), (8, 8)])
def test_shards_that_there_are_not(engine_class, first, last):
  engine = engine_class(num_shards=7)
  for call in (
    engine.keys,
    lambda *shards: engine.evictable(0, *shards),
    lambda *shards: engine.end_of_day_rows(0, None, *shards),
  ):
    with pytest.raises(tf.errors.InvalidArgumentError, match="0 to 7 .num_shards."):
      call(first, last)
  engine.close()


def test_the_longest_that_a_feasign_can_go_unseen(engine_class):
  engine = engine_class(
    num_shards=1,
    mf_dim=1,
    accessor=Accessor(delete_after_unseen_days=65_534, delete_threshold=-1.0, decay_rate=1.0),
  )
  engine.push([1], [1], [1.0], [0.0], [[0.0, 0.0]])
  for day in range(65_535):
    assert engine.end_of_day(day) == 0
  assert engine.inspect([1]).unseen_days.tolist() == [65_535]
  assert engine.end_of_day(65_535) == 1
  engine.close()


def test_two_tables_share_nothing(engine_class):
  one, two = engine_class(mf_dim=1), engine_class(mf_dim=1)
  one.push([1], [1], [1.0], [0.0], [[1.0, 1.0]])
  assert one.keys().tolist() == [1] and not two.keys().size
  one.close()
  two.push([1], [1], [2.0], [0.0], [[1.0, 1.0]])
  assert two.statistics()["show"] == 2
  two.close()
