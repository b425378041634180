"""Which shards move when the number of servers changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tfps.table import placement

SHARDS = st.integers(1, 300)
SERVERS = st.integers(1, 12)


@st.composite
def assignments(draw):
  """An assignment of any kind, even or not, and the number of its servers."""
  servers, shards = draw(SERVERS), draw(SHARDS)
  some = st.lists(st.integers(0, servers - 1), min_size=shards, max_size=shards)
  return np.array(draw(some), np.int32), servers


def counts(assignment, servers):
  return np.bincount(assignment, minlength=servers)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.integers(1, 2**20))
def test_virtual_shards_are_those_of_the_reference(keys, num_shards):
  expected = [reference.virtual_shard(key, num_shards) for key in keys]
  assert placement.virtual_shards(keys, num_shards).tolist() == expected


@given(assignments(), st.integers(1, 6))
def test_new_servers_take_the_same_part_from_every_old_one(before, more):
  assignment, old = before
  new = old + more
  result = placement.reassign(assignment, new, old)
  moved = result != assignment
  assert np.all(result[moved] >= old)  # nothing moves between old servers
  assert moved.sum() == assignment.size * more // new
  given_away = counts(assignment, old) - counts(result, new)[:old]
  assert np.all(np.abs(given_away - counts(assignment, old) * more / new) < 2)
  taken = counts(result, new)[old:]
  assert taken.max() - taken.min() <= 1


@given(assignments(), SERVERS)
def test_the_shards_of_removed_servers_are_spread_and_no_others_move(before, left):
  assignment, old = before
  new = min(left, old)
  result = placement.reassign(assignment, new, old)
  removed = assignment >= new
  np.testing.assert_array_equal(result[~removed], assignment[~removed])
  assert result.max() < new
  stayed = counts(assignment[~removed], new)
  taken = counts(result, new) - stayed
  assert taken.max() - taken.min() <= 1
  assert np.ptp(counts(result, new)) <= max(np.ptp(stayed), 1)


@given(assignments())
def test_as_many_servers_change_nothing(before):
  assignment, servers = before
  np.testing.assert_array_equal(placement.reassign(assignment, servers, servers), assignment)
  np.testing.assert_array_equal(placement.reassign(assignment, assignment.max() + 1), assignment)


@given(st.integers(100, 1024), st.lists(SERVERS, min_size=1, max_size=8))
def test_a_cluster_that_grows_and_shrinks_stays_even(shards, numbers):
  assignment = placement.assign_shards(shards, numbers[0])
  for servers in numbers[1:]:
    assignment = placement.reassign(assignment, servers)
  held = counts(assignment, numbers[-1])
  assert held.sum() == shards
  assert held.max() - held.min() <= 2 * len(numbers)


@pytest.mark.parametrize("servers", [1, 2, 4, 9])
def test_one_more_server_moves_its_share(servers):
  assignment = placement.assign_shards(1024, servers)
  result = placement.reassign(assignment, servers + 1)
  assert np.sum(result != assignment) == 1024 // (servers + 1)
  held = counts(result, servers + 1)
  assert held.max() - held.min() <= 2
  assert result.dtype == np.int32 and assignment.max() == servers - 1  # the argument is as it was


LOADS = st.lists(st.integers(0, 1000), min_size=3, max_size=3)


def beyond(assignment, servers, loads):
  """How far servers are from the mean, beyond a tenth of it."""
  distances = np.abs(placement.server_loads(assignment, servers, loads) - 1) - 0.1
  return np.sum(np.maximum(distances, 0) ** 2)


def check_rebalanced(assignment, servers, loads):
  """No worse than before, the same each time, and none of the moves could have been saved."""
  result = placement.rebalance(assignment, servers, loads)
  assert result.min() >= 0 and result.max() < servers
  np.testing.assert_array_equal(result, placement.rebalance(assignment, servers, loads))
  moved = np.flatnonzero(result != assignment)
  left = beyond(result, servers, loads)
  assert moved.size == 0 or left < beyond(assignment, servers, loads)
  for shard in moved:
    home = result.copy()
    home[shard] = assignment[shard]
    assert beyond(home, servers, loads) > left - 1e-9
    assert left > 0 or beyond(home, servers, loads) > 0
  return result


@given(assignments(), st.data())
def test_a_rebalanced_assignment_is_never_worse(before, data):
  assignment, servers = before
  loads = data.draw(st.lists(LOADS, min_size=assignment.size, max_size=assignment.size))
  check_rebalanced(assignment, servers, np.array(loads).T)


@pytest.mark.parametrize("seed", range(8))
def test_what_need_not_move_stays(seed):
  rng = np.random.default_rng(seed)
  assignment = placement.assign_shards(256, 5)
  loads = rng.lognormal(0, 1, [3, 256]) * np.where(assignment == 0, 2, 1)
  check_rebalanced(assignment, 5, loads)


@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_many_small_shards_come_near_the_mean_by_all_measures(servers, seed):
  rng = np.random.default_rng(seed)
  assignment = placement.assign_shards(1024, servers)
  loads = rng.uniform(0.5, 1.5, [3, 1024])
  loads[0] *= np.where(assignment == 0, 1.8, 1)
  loads[2] *= np.where(assignment == servers - 1, 2.5, 1)
  assert placement.server_loads(assignment, servers, loads).max() > 1.2
  result = placement.rebalance(assignment, servers, loads)
  after = placement.server_loads(result, servers, loads)
  assert np.all(np.abs(after - 1) <= 0.1)
  assert np.sum(result != assignment) < 1024 / 2


def test_even_loads_and_none_move_nothing():
  assignment = placement.assign_shards(64, 4)
  for loads in (np.ones([3, 64]), np.zeros([3, 64])):
    np.testing.assert_array_equal(placement.rebalance(assignment, 4, loads), assignment)


def test_one_shard_that_is_too_much_for_any_server_is_left_with_few_others():
  loads = np.ones([1, 64])
  loads[0, 5] = 100
  result = placement.rebalance(placement.assign_shards(64, 4), 4, loads)
  assert np.sum(result == result[5]) == 1
  assert placement.server_loads(result, 4, loads)[0].tolist() == pytest.approx(
    [21 / 40.75, 100 / 40.75, 21 / 40.75, 21 / 40.75]
  )


def test_the_odd_shard_of_a_removed_server_goes_where_fewest_are():
  assert placement.reassign([0, 0, 0, 1, 1, 2], 2).tolist() == [0, 0, 0, 1, 1, 1]
