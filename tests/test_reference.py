"""The reference against numbers computed by hand from docs/semantics.md."""

import dataclasses
import math

import numpy as np
import pytest

from tests import reference
from tests.reference import Accessor, Optimizer, ReferenceTable

SGD = Optimizer("sgd", learning_rate=0.5)
NAN, INF = math.nan, math.inf


def sgd_table(**settings):
  return ReferenceTable(**dict(dict(mf_dim=2, lr=SGD, mf=SGD, mf_init_range=0.0), **settings))


def push_one(table, key, *, slot=1, show=1.0, click=0.0, g=(0.0, 0.0, 0.0)):
  table.push([key], [slot], [show], [click], np.array([g], np.float32))


def test_splitmix64_gives_the_published_sequence():
  gamma = 0x9E3779B97F4A7C15
  sequence = [reference.splitmix64(i * gamma & reference.UINT64) for i in range(3)]
  assert sequence == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_virtual_shard_is_the_upper_half_of_the_hash_scaled_to_the_number_of_shards():
  hash_of_zero = 0xE220A8397B1DCDAF
  assert reference.virtual_shard(0, 1) == 0
  assert reference.virtual_shard(0, 1024) == hash_of_zero >> 54
  assert reference.virtual_shard(0, 7) == math.floor((hash_of_zero >> 32) / 2**32 * 7)
  assert reference.virtual_shard(-1, 1024) == reference.splitmix64(2**64 - 1) >> 54


def test_small_consecutive_keys_spread_evenly_over_shards():
  counts = np.bincount([reference.virtual_shard(key, 16) for key in range(1, 16001)], minlength=16)
  assert counts.min() > 850 and counts.max() < 1150


def test_initial_mf_by_hand():
  # seed XOR key = 0, so dimension d mixes splitmix64(0) + d.
  u = [(reference.splitmix64(0xE220A8397B1DCDAF + d) >> 40) / 2**24 for d in range(3)]
  expected = np.float32([0.5 * (2 * x - 1) for x in u])
  np.testing.assert_array_equal(reference.initial_mf(42, 42, 3, 0.5), expected)
  np.testing.assert_array_equal(reference.initial_mf(42, 42, 2, 0.5), expected[:2])


def test_initial_mf_is_uniform_over_its_range():
  values = np.concatenate([reference.initial_mf(1, key, 8, 2.0) for key in range(2000)])
  assert values.min() >= -2 and values.max() < 2
  np.testing.assert_allclose([values.mean(), values.var()], [0, 16 / 12], atol=0.05)


def test_score():
  assert Accessor().score(10, 2) == pytest.approx(8 * 0.1 + 2 * 1.0)


@pytest.mark.parametrize("click, pushes", [(0.0, 100), (1.0, 10)])
def test_admission_with_the_defaults(click, pushes):
  table = sgd_table()
  for _ in range(pushes - 1):
    push_one(table, 5, click=click)
  assert table.row(5).mf is None
  push_one(table, 5, click=click)
  assert table.row(5).mf is not None


def test_push_by_hand():
  table = sgd_table(accessor=Accessor(create_threshold=1.0))
  push_one(table, 7, slot=3, show=2.0, click=0.5, g=(4.0, 9.0, 9.0))
  row = table.row(7)
  assert (row.slot, row.show, row.click, row.mf, row.unseen_days) == (3, 2.0, 0.5, None, 0)
  assert row.delta_score == pytest.approx(1.5 * 0.1 + 0.5)
  assert row.lr[0] == [-1.0]  # lr 0.5 of the mean gradient 4 / 2

  push_one(table, 7, slot=3, show=1.0, click=1.0, g=(0.0, 8.0, -8.0))  # score 1.65: admitted
  np.testing.assert_array_equal(row.mf[0], [0.0, 0.0])
  push_one(table, 7, slot=3, show=4.0, click=0.0, g=(0.0, 8.0, -8.0))
  np.testing.assert_array_equal(row.mf[0], [-1.0, 1.0])
  assert (row.show, row.click) == (7.0, 1.5)
  np.testing.assert_array_equal(
    table.pull([7, 8, 0, reference.RESERVED[0]]), [[-1, -1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
  )


def test_gradient_scale():
  for scale, show, expected in [
    ("per_show", 4.0, -1.0),
    ("sum", 4.0, -4.0),
    ("per_show", 0.0, -4.0),
    ("per_show", -2.0, -4.0),
    ("per_show", 0.5, -8.0),
  ]:
    table = sgd_table(gradient_scale=scale)
    push_one(table, 1, show=show, g=(8.0, 0.0, 0.0))
    assert table.row(1).lr[0] == [expected], (scale, show)


def test_a_gradient_that_overflows_when_it_is_scaled_is_nonfinite():
  table = sgd_table()
  push_one(table, 1, show=1e-30, g=(1e30, 0.0, 0.0))
  assert table.row(1).lr[0] == [0.0] and table.counters["nonfinite_gradients"] == 1


def test_a_key_that_repeats_in_one_push_is_pushed_twice():
  table = sgd_table(gradient_scale="sum", accessor=Accessor(create_threshold=0.1))
  table.push([1, 1], [1, 2], [1.0, 1.0], [0.0, 0.0], np.ones([2, 3], np.float32))
  row = table.row(1)
  assert row.show == 2.0 and row.lr[0] == [-1.0]
  np.testing.assert_array_equal(row.mf[0], [-0.5, -0.5])  # the first occurrence admitted it
  assert row.slot == 1 and table.counters["slot_conflicts"] == 1


def test_padding_and_reserved_keys():
  table = sgd_table()
  for key in (0, -(2**63), -(2**63) + 1):
    push_one(table, key, g=(1.0, 1.0, 1.0))
  assert not table.rows and table.counters["reserved_pushes"] == 2
  push_one(table, -(2**63) + 2)
  push_one(table, 2**63 - 1)
  push_one(table, -1)
  assert table.keys() == [-(2**63) + 2, -1, 2**63 - 1]


@pytest.mark.parametrize("gradient", [(NAN, 1, 1), (1, INF, 1), (1, 1, -INF)])
def test_a_nonfinite_gradient_takes_no_step_but_counts_and_may_admit(gradient):
  table = sgd_table(accessor=Accessor(create_threshold=0.2))
  push_one(table, 1, g=gradient)
  assert table.row(1).show == 1.0 and table.row(1).lr[0] == [0.0] and table.row(1).mf is None
  push_one(table, 1, g=gradient)
  assert table.row(1).mf is not None
  push_one(table, 1, g=gradient)
  np.testing.assert_array_equal(table.pull([1]), [[0.0, 0.0, 0.0]])
  assert table.counters["nonfinite_gradients"] == 3


@pytest.mark.parametrize("show, click", [(NAN, 0.0), (INF, 0.0), (1.0, NAN), (1.0, -INF)])
def test_nonfinite_counts_drop_the_row(show, click):
  table = sgd_table()
  push_one(table, 1, show=show, click=click, g=(NAN, 1.0, 1.0))
  push_one(table, 0, show=show, click=click)
  push_one(table, -(2**63), show=show, click=click)
  assert not table.rows
  assert table.counters["nonfinite_counts"] == 1 and table.counters["reserved_pushes"] == 1
  assert table.counters["nonfinite_gradients"] == 0


def test_a_frozen_row_counts_and_takes_no_step_and_is_not_admitted():
  table = sgd_table(accessor=Accessor(create_threshold=0.2), lr=Optimizer("adam"))
  for show in (1.0, 1.0, 4.0):
    table.push([1], [2], [show], [1.0], [[1.0] * 3], [NAN])
  row = table.row(1)
  assert (row.slot, row.show, row.click, row.mf) == (2, 6.0, 3.0, None)
  np.testing.assert_array_equal(np.concatenate(row.lr), [0, 0, 0, 1, 1])
  table.push([1], [2], [1.0], [0.0], [[1.0] * 3])
  assert row.mf is not None and row.lr[0] != 0
  lr, mf = row.lr, row.mf
  table.push([1], [2], [1.0], [0.0], [[1.0] * 3], [NAN])
  assert row.lr is lr and row.mf is mf and row.show == 8


def test_the_step_uses_the_mean_over_the_show_that_its_gradient_is_of():
  table = sgd_table()
  table.push([1], [1], [8.0], [0.0], [[8.0, 0.0, 0.0]], [2.0])
  assert table.row(1).show == 8 and table.row(1).lr[0] == [-2.0]


@pytest.mark.parametrize("name", ["adagrad", "std_adagrad", "adam"])
def test_a_step_that_leaves_what_is_not_finite_is_not_taken(name):
  table = sgd_table(accessor=Accessor(create_threshold=0), mf=Optimizer(name))
  push_one(table, 1)
  for gradient in [(1.0, 1e30, 0.0), (1.0, 0.0, 1e30)]:
    push_one(table, 1, g=gradient)
  assert table.row(1).lr[0] == [0.0] and table.row(1).show == 3
  assert table.counters["nonfinite_gradients"] == 2


def step(optimizer, w, gradients):
  w = np.float32(w)
  state = optimizer.initial_state(w.size)
  for g in gradients:
    w, state = optimizer.step(w, state, np.float32(g))
  return w, state


def test_sgd():
  w, state = step(SGD, [1.0, 2.0], [[0.5, -1.0]])
  np.testing.assert_array_equal(w, [0.75, 2.5])
  assert state.size == 0


def test_l2_adds_the_weights_to_the_gradient_before_it_is_clipped():
  w, _ = step(dataclasses.replace(SGD, l2=0.5), [1.0, 2.0], [[0.5, -1.0]])
  np.testing.assert_array_equal(w, [0.5, 2.0])
  w, _ = step(dataclasses.replace(SGD, l2=0.5, clipvalue=0.5), [4.0, -2.0], [[0.0, 1.25]])
  np.testing.assert_array_equal(w, [3.75, -2.125])
  adagrad = Optimizer("adagrad", learning_rate=0.5, initial_g2sum=4.0, l2=2.0)
  w, state = step(adagrad, [1.0, 0.0], [[0.0, 4.0]])
  np.testing.assert_array_equal(w, [0.0, -2.0])
  np.testing.assert_array_equal(state, [10.0])


def test_adagrad_scales_with_one_sum_before_this_step():
  adagrad = Optimizer("adagrad", learning_rate=0.5, initial_g2sum=4.0)
  w, state = step(adagrad, [0.0, 0.0], [[2.0, 4.0]])
  np.testing.assert_array_equal(w, [-1.0, -2.0])
  np.testing.assert_array_equal(state, [10.0])
  w, state = step(adagrad, [0.0, 0.0], [[2.0, 4.0], [1.0, 0.0]])
  np.testing.assert_allclose(w, [-1.0 - 0.5 * math.sqrt(4 / 14), -2.0], rtol=1e-6)
  np.testing.assert_array_equal(state, [10.5])


def test_std_adagrad_has_a_sum_for_each_dimension():
  adagrad = Optimizer("std_adagrad", learning_rate=0.5, initial_g2sum=4.0)
  w, state = step(adagrad, [0.0, 0.0], [[2.0, 4.0], [1.0, 1.0]])
  np.testing.assert_allclose(
    w, [-1.0 - 0.5 * math.sqrt(4 / 8), -2.0 - 0.5 * math.sqrt(4 / 20)], rtol=1e-6
  )
  np.testing.assert_array_equal(state, [5.0, 17.0])


def test_adam():
  adam = Optimizer("adam", learning_rate=0.1, beta1=0.5, beta2=0.75, epsilon=1.0)
  w, state = step(adam, [0.0, 1.0], [[2.0, 0.0]])
  # m = 1, v = 1; m_hat = 1 / 0.5, v_hat = 1 / 0.25: 0.1 * 2 / (2 + 1)
  np.testing.assert_allclose(w, [-0.2 / 3, 1.0], rtol=1e-6)
  np.testing.assert_array_equal(state, [1.0, 0.0, 1.0, 0.0, 0.5, 0.75])
  w, state = step(adam, [0.0, 1.0], [[2.0, 0.0], [4.0, 0.0]])
  # m = 2.5, v = 4.75; powers 0.25 and 0.5625
  second = 0.1 * (2.5 / 0.75) / (math.sqrt(4.75 / 0.4375) + 1)
  np.testing.assert_allclose(w, [-0.2 / 3 - second, 1.0], rtol=1e-6)
  np.testing.assert_array_equal(state, [2.5, 0.0, 4.75, 0.0, 0.25, 0.5625])


def test_ftrl():
  ftrl = Optimizer("ftrl", alpha=0.5, beta=1.0, l1=1.0, l2=0.5)
  w, state = step(ftrl, [0.25, 0.0], [[3.0, 0.5]])
  # sigma = 3 / 0.5 = 6, z = 3 - 6 * 0.25; second dimension: |z| = 0.5 <= l1
  np.testing.assert_array_equal(state, [1.5, 0.5, 9.0, 0.25])
  np.testing.assert_allclose(w, [-(1.5 - 1) / ((1 + 3) / 0.5 + 0.5), 0.0], rtol=1e-6)
  w, state = step(ftrl, [0.25, 0.0], [[3.0, 0.5], [-4.0, 0.0]])
  # sigma = (5 - 3) / 0.5 = 4, z = 1.5 - 4 + 4 * 0.5 / 8.5
  z = -2.5 + 2 / 8.5
  np.testing.assert_allclose(state, [z, 0.5, 25.0, 0.25], rtol=1e-6)
  np.testing.assert_allclose(w, [-(z + 1) / ((1 + 5) / 0.5 + 0.5), 0.0], rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "std_adagrad", "adam", "ftrl"])
def test_weights_are_clipped_after_every_step(name):
  optimizer = Optimizer(name, learning_rate=5.0, alpha=5.0, weight_min=-0.5, weight_max=0.25)
  w, _ = step(optimizer, [0.0, 0.0], [[100.0, -100.0]])
  np.testing.assert_array_equal(w, [-0.5, 0.25])


def test_end_of_day_evicts_then_ages_then_decays():
  table = sgd_table(
    accessor=Accessor(delete_threshold=0.5, decay_rate=0.5, delete_after_unseen_days=1)
  )
  push_one(table, 1, show=5.0)  # score 0.5: stays on day 1; 0.25 after its decay
  push_one(table, 2, show=4.0)  # score 0.4: evicted
  push_one(table, 3, show=64.0)
  assert table.end_of_day(1) == 1
  assert table.keys() == [1, 3]
  assert (table.row(1).show, table.row(1).unseen_days, table.row(1).delta_score) == (2.5, 1, 0.5)
  assert table.end_of_day(2) == 1
  assert table.keys() == [3] and table.row(3).unseen_days == 2
  assert table.end_of_day(3) == 1  # unseen for 2 days, more than 1


def test_a_day_ends_once():
  table = sgd_table()
  push_one(table, 1, show=64.0)
  table.end_of_day(5)
  for day in (5, 4, -1):
    assert table.end_of_day(day) == 0
  assert table.row(1).unseen_days == 1
  table.end_of_day(9)
  assert table.row(1).unseen_days == 2
  push_one(table, 1)
  assert table.row(1).unseen_days == 0


def test_unseen_days_saturates():
  table = sgd_table(accessor=Accessor(delete_after_unseen_days=10**6, decay_rate=1.0))
  push_one(table, 1, show=64.0)
  table.row(1).unseen_days = reference.MAX_UNSEEN_DAYS - 1
  table.end_of_day(1)
  table.end_of_day(2)
  assert table.row(1).unseen_days == 65535


def test_statistics():
  table = sgd_table(accessor=Accessor(create_threshold=3.0))
  push_one(table, 1, show=3.0, click=3.0)
  push_one(table, 2, show=2.0, click=0.5)
  push_one(table, 0)
  table.pull([1, 1, 0])
  assert table.statistics() == {
    "rows": 2,
    "admitted": 1,
    "show": 5.0,
    "click": 3.5,
    "reserved_pushes": 0,
    "slot_conflicts": 0,
    "nonfinite_gradients": 0,
    "nonfinite_counts": 0,
    "odd_clicks": 0,
    "pulled_keys": 2,
    "pushed_keys": 2,
    "evicted": 0,
    "evicted_at_limit": 0,
    "fullness_max": 0.0,
  }
