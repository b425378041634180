"""Which shards move when the number of servers changes."""

from hypothesis import given, strategies as st
import numpy as np
import pytest

from tfps import placement

from tests import reference

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
  taken = counts(result, new) - counts(assignment[~removed], new)
  assert taken.max() - taken.min() <= 1


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
