"""The parts of a row: what `split` takes apart, `join` puts together."""

import itertools

import numpy as np
import pytest

import tfps
from tfps.table.row import RowLayout, split_rows

OPTIMIZERS = [tfps.SGD(), tfps.Adagrad(), tfps.StdAdagrad(), tfps.Adam(), tfps.FTRL()]


@pytest.mark.parametrize("lr, mf", list(itertools.product(OPTIMIZERS, OPTIMIZERS)))
@pytest.mark.parametrize("admitted", [False, True])
def test_join_is_the_inverse_of_split(lr, mf, admitted):
  layout = RowLayout(3, lr, mf)
  floats = np.arange(2 * layout.width(admitted), dtype=np.float32).reshape(2, -1)
  parts = layout.split(floats)
  assert list(parts) == list(layout.parts)[: 4 if admitted else 2]
  assert parts["lr_w"].tolist() == floats[:, 0].tolist()
  np.testing.assert_array_equal(layout.join(parts), floats)
  np.testing.assert_array_equal(layout.split(floats[1])["lr_state"], parts["lr_state"][1])


def test_a_missing_state_is_that_of_no_step():
  layout = RowLayout(2, tfps.Adagrad(), tfps.Adam())
  floats = layout.join({"lr_w": np.array([1.0, 2.0]), "mf_w": np.array([[3.0, 4.0], [5.0, 6.0]])})
  assert floats.dtype == np.float32
  assert floats.tolist() == [
    [1.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0],
    [2.0, 0.0, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0],
  ]


def test_rows_of_several_slots_are_as_wide_as_the_widest():
  short, wide = RowLayout(1, tfps.SGD(), tfps.SGD()), RowLayout(2, tfps.Adagrad(), tfps.SGD())
  floats = np.float32([[1, 2, 0, 0], [3, 4, 5, 6], [7, 8, 0, 0]])  # The last is not admitted.
  parts = split_rows(floats, np.array([5, 1, 1]), {5: short}, wide)
  assert {name: part.tolist() for name, part in parts.items()} == {
    "lr_w": [1, 3, 7],
    "lr_state": [[0], [4], [8]],
    "mf_w": [[2, 0], [5, 6], [0, 0]],
    "mf_state": [[], [], []],
  }
