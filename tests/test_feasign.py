"""Feasigns of strings and integers."""

import hashlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tfps import feasign
from tfps.table.feasigns import _avoid_reserved

_RESERVED = (0, -(2**63), -(2**63) + 1)
_MASK = 2**64 - 1


def _unmix(key, slot):
  """The integer that gave the feasign `key` of `slot`: splitmix64's finaliser backwards."""
  salt = int.from_bytes(hashlib.blake2b(slot.encode(), digest_size=8).digest(), "little")
  x = key & _MASK
  x ^= (x >> 31) ^ (x >> 62)
  x = x * pow(0x94D049BB133111EB, -1, 2**64) & _MASK
  x ^= (x >> 27) ^ (x >> 54)
  x = x * pow(0xBF58476D1CE4E5B9, -1, 2**64) & _MASK
  x ^= (x >> 30) ^ (x >> 60)
  x ^= salt
  return x - 2**64 if x >= 2**63 else x


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_integers_can_be_recovered_so_they_never_collide(values):
  keys = feasign("user_id", np.array(values, np.int64)).numpy()
  assert [_unmix(int(key), "user_id") for key in keys] == values


@pytest.mark.parametrize("reserved", _RESERVED)
def test_the_integers_that_would_give_a_reserved_key_give_another(reserved):
  value = _unmix(reserved, "user_id")
  key = int(feasign("user_id", value).numpy())
  assert key not in _RESERVED
  assert key == int(feasign("user_id", value).numpy())


def test_every_reserved_key_is_moved():
  moved = _avoid_reserved(tf.constant([*_RESERVED, 1, -1, 2**63 - 1], tf.int64)).numpy()
  assert not set(moved[:3]) & set(_RESERVED)
  assert len(set(moved[:3])) == 3
  assert moved[3:].tolist() == [1, -1, 2**63 - 1]


def test_a_feasign_never_changes():
  # Tables hold feasigns for years: these values are part of the format.
  strings = feasign("user_id", ["alice", ""]).numpy().tolist()
  assert strings == [4889329555292024232, 8041180961619057281]
  assert feasign("user_id", [5, -1]).numpy().tolist() == [4520089115473478311, 6356068047705667573]


def test_slots_and_types_differ():
  keys = [int(feasign(slot, value).numpy()) for slot in ("a", "b") for value in (5, "5", "a5")]
  assert len(set(keys)) == len(keys)
  assert feasign("ab", "c").numpy() != feasign("a", "bc").numpy()


def test_integer_types_agree():
  for dtype in (np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64):
    np.testing.assert_array_equal(feasign("s", np.array([1, 7], dtype)), feasign("s", [1, 7]))
  np.testing.assert_array_equal(feasign("s", np.array([2**64 - 1], np.uint64)), feasign("s", [-1]))


@pytest.mark.parametrize(
  "values",
  [[[["a", "b"]], [["c", ""]]], np.arange(12).reshape(2, 3, 2), "a", 3, np.zeros([0, 4], np.int64)],
)
def test_structure_is_kept(values):
  keys = feasign("s", values)
  assert keys.dtype == tf.int64
  assert keys.shape == np.shape(values)
  flat = [int(feasign("s", value.item()).numpy()) for value in np.asarray(values).reshape(-1)]
  assert keys.numpy().reshape(-1).tolist() == flat


def test_ragged_and_sparse():
  ragged = tf.ragged.constant([["a"], [], ["b", "c"]])
  keys = feasign("s", ragged)
  assert isinstance(keys, tf.RaggedTensor)
  assert keys.row_lengths().numpy().tolist() == [1, 0, 2]
  np.testing.assert_array_equal(keys.flat_values, feasign("s", ["a", "b", "c"]))

  nested = tf.ragged.constant([[[1], []], [[2, 3]]])
  assert feasign("s", nested).to_list()[1] == [feasign("s", [2, 3]).numpy().tolist()]

  sparse = tf.sparse.from_dense([[0, 5], [7, 0]])
  keys = feasign("s", sparse)
  assert isinstance(keys, tf.SparseTensor)
  np.testing.assert_array_equal(keys.indices, sparse.indices)
  np.testing.assert_array_equal(keys.values, feasign("s", [5, 7]))


def test_padding_becomes_key_zero():
  strings = feasign("s", [["a", ""], ["", "b"]], padding="").numpy()
  assert (strings == 0).tolist() == [[False, True], [True, False]]
  integers = feasign("s", [[1, -1], [0, 2]], padding=-1).numpy()
  assert (integers == 0).tolist() == [[False, True], [False, False]]
  np.testing.assert_array_equal(strings[0, 0], feasign("s", "a"))
  wide = feasign("s", np.array([1, 2], np.uint64), padding=2).numpy()
  assert (wide == 0).tolist() == [False, True]


def test_in_a_pipeline_and_in_a_saved_model(tmp_path):
  values = np.arange(10)
  dataset = tf.data.Dataset.from_tensor_slices(values).batch(4).map(lambda v: feasign("s", v))
  keys = np.concatenate([batch.numpy() for batch in dataset])
  np.testing.assert_array_equal(keys, feasign("s", values))

  module = tf.Module()
  module.serve = tf.function(
    lambda words: feasign("s", words, padding=""),
    input_signature=[tf.TensorSpec([None, None], tf.string)],
  )
  assert module.serve.get_concrete_function().output_shapes.rank == 2
  tf.saved_model.save(module, str(tmp_path))
  words = tf.constant([["a", ""], ["b", "c"]])
  served = tf.saved_model.load(str(tmp_path)).serve(words)
  np.testing.assert_array_equal(served, feasign("s", words, padding=""))


def test_keys_spread():
  """Consecutive integers spread evenly over 64 buckets, by the lowest and by the highest bits."""
  keys = feasign("s", np.arange(64_000)).numpy().astype(np.uint64)
  for buckets in (keys % np.uint64(64), keys >> np.uint64(58)):
    counts = np.bincount(buckets.astype(np.int64), minlength=64)
    assert counts.min() > 840 and counts.max() < 1160  # 1,000 and five standard deviations.


@pytest.mark.parametrize("values", [[1.5], [True], np.array([1 + 2j])])
def test_other_types_are_refused(values):
  with pytest.raises(TypeError, match="slot 'age' has values of .* strings or integers"):
    feasign("age", values)


@pytest.mark.parametrize("slot", ["", "a\x1fb", 5, None])
def test_unusable_slot_names_are_refused(slot):
  with pytest.raises(ValueError, match="slot must be a name"):
    feasign(slot, [1])
