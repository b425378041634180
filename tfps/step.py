"""One training step's dealings with the feasign tables: what was pulled, and the push that answers it."""

import threading

import tensorflow as tf

from tfps import native

_active = threading.local()


def current_step():
  """The `Step` that is being traced or run in this thread, or None outside of one."""
  return getattr(_active, "step", None)


class Step:
  """Collects the lookups of a forward pass, then pushes their gradients and counts.

  A context manager around the forward pass. The gradient tape watches what was pulled, so that
  `tape.gradient(loss, step.rows)` is what `push` takes.
  """

  def __init__(self, tape):
    self._tape = tape
    self._lookups = []

  def __enter__(self):
    self._outer = current_step()
    _active.step = self
    return self

  def __exit__(self, *exc_info):
    _active.step = self._outer

  def record(self, lookup):
    """Called by the embedding layer for each pull, before anything is computed from its rows."""
    self._tape.watch(lookup.rows)
    self._lookups.append(lookup)

  @property
  def rows(self):
    """The pulled rows, one tensor [U, 1 + the layer's mf_dim] for each lookup."""
    return [lookup.rows for lookup in self._lookups]

  @tf.autograph.experimental.do_not_convert
  def push(self, row_gradients, show, click):
    """Pushes gradients and counts to every table that was pulled from.

    Args:
      row_gradients: for each of `rows`, the gradient of the sum over examples of the loss; None where the
        loss does not depend on it.
      show: float [B], what one occurrence in each example adds to its feasign's show.
      click: float [B], likewise for click.
    """
    pushes = {}
    for lookup, gradient in zip(self._lookups, row_gradients):
      gradient = tf.zeros_like(lookup.rows) if gradient is None else tf.convert_to_tensor(gradient)
      counts = native.ops.tfps_count(
        positions=lookup.positions,
        row_splits=lookup.row_splits,
        show=show,
        click=click,
        num_rows=tf.shape(lookup.rows)[0],
      )
      sizes = [tf.shape(keys)[0] for keys in lookup.keys]
      parts = zip(
        lookup.keys,
        lookup.slots,
        *(tf.split(values, sizes) for values in (counts.row_show, counts.row_click, gradient)),
      )
      pushes.setdefault(lookup.table, []).append(list(parts))
    for table, lookups in pushes.items():
      table.push(lookups[0] if len(lookups) == 1 else _merge(lookups))


def _merge(lookups):
  """Merges the pushes of several lookups of one table, so that each feasign is in one row.

  A gradient that is narrower than another ends in zeros: its lookup did not see the rest of the row.
  """
  width = max(gradient.shape[1] for parts in lookups for *_, gradient in parts)
  lookups = [
    [
      (*counts, tf.pad(gradient, [[0, 0], [0, width - gradient.shape[1]]]))
      for *counts, gradient in parts
    ]
    for parts in lookups
  ]
  merged = []
  for parts in zip(*lookups):
    keys, slots, show, click, gradient = (tf.concat(column, axis=0) for column in zip(*parts))
    unique, position = tf.unique(keys)
    count = tf.shape(unique)[0]
    merged.append(
      (
        unique,
        tf.math.unsorted_segment_min(slots, position, count),
        tf.math.unsorted_segment_sum(show, position, count),
        tf.math.unsorted_segment_sum(click, position, count),
        tf.math.unsorted_segment_sum(gradient, position, count),
      )
    )
  return merged
