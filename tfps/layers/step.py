"""One training step's dealings with the feasign tables: what was pulled, and the push that answers it.

A step on its own pulls in its forward pass and pushes at its end; in a `Routed` it knows already what it pulls. Within a
worker's ticket the worker's loop (`tfps.training.worker`) does both for it: it runs the forward pass in a `Routing` to
learn what is to be pulled, and the step in an `Exchanged` that has what was pulled, and keeps the push for the loop to
send.
"""

import threading

import tensorflow as tf

from tfps import native
from tfps.layers.lookup import Lookup

# The name of what stands for rows while it is only asked which they are.
NOT_PULLED = "rows_not_pulled"

# Of a step that belongs to no ticket: nothing tells whether a push was there before.
NO_TICKET = (-1, 0, 0)

_active = threading.local()


def current_step():
  """The `Step` that is being traced or run in this thread, or None outside of one."""
  return getattr(_active, "step", None)


def current_exchange():
  """The `Routing`, `Exchanged` or `Routed` in which this thread is, or None."""
  return getattr(_active, "exchange", None)


def pull_now(table, bags, row_width, routed, answered):
  """The `tfps.layers.lookup.Lookup` of `tfps.layers.bags.Bags`.

  Args:
    table: the `tfps.FeasignTable`.
    bags: the `tfps.layers.bags.Bags`.
    row_width: floats wanted of each row.
    routed: their distinct feasigns by server: keys, slots and positions.
    answered: whether a push will answer it.
  """
  keys, _, _ = routed
  if not answered:
    return Lookup(table, *routed, bags.row_splits, table.pull(keys, row_width))
  replies = table.exchange(keys, table.no_messages(), row_width)
  return Lookup(table, *routed, bags.row_splits, table.read_replies(replies, row_width), replies)


class _Scope:
  """A context manager that makes itself what `current_exchange` returns."""

  def __enter__(self):
    self._outer = current_exchange()
    _active.exchange = self
    return self

  def __exit__(self, *exc_info):
    _active.exchange = self._outer


class Routing(_Scope):
  """Collects what the embedding layers of a forward pass want to pull, and gives them zeros.

  Attributes:
    lookups: the `tfps.layers.lookup.Lookup`s, in the order of the layers' calls; without replies.
  """

  def __init__(self):
    self.lookups = []

  def pull(self, table, bags, row_width, route):
    routed = route(bags)
    count = tf.add_n([tf.shape(keys)[0] for keys in routed.keys])
    rows = tf.zeros([count, row_width], name=NOT_PULLED)
    self.lookups.append(Lookup(table, *routed, bags.row_splits, rows))
    return self.lookups[-1]


class Exchanged(_Scope):
  """Gives the embedding layers of a step what was pulled for them, and keeps what it pushes.

  Args:
    lookups: for each pull of the forward pass, in order, a `tfps.layers.lookup.Lookup` with its replies; the rest is not read.
    step: int64 [3]: the ticket's number, the batch's number in it, and the number below which all tickets are finished.
    wire_dtype: of pushed gradients.
    gradient_sums: the `tfps.training.gradient_sums.GradientSums` that take the dense gradients; None where the
      optimizer does.

  Attributes:
    pushes: {`FeasignTable`: for each server uint8 [m], the message that pushes}.
  """

  def __init__(self, lookups, step, wire_dtype, gradient_sums=None):
    self.step = step
    self.wire_dtype = wire_dtype
    self.gradient_sums = gradient_sums
    self.pushes = {}
    self._lookups = iter(lookups)

  def pull(self, table, bags, row_width, route):
    del route
    given = next(self._lookups)
    rows = table.read_replies(given.replies, row_width)
    return given._replace(table=table, row_splits=bags.row_splits, rows=rows)

  def push(self, table, messages, gradients):
    """Called at the step's end, with one message for each server and the rows' gradients that are in them."""
    del gradients
    self.pushes[table] = messages


class Routed(_Scope):
  """Tells the embedding layers of a step what to pull, where that is known already; they pull and push as ever.

  Args:
    routes: for each pull of the forward pass, in order, (keys by server, slots by server, positions).

  Attributes:
    step, wire_dtype, gradient_sums: as of `Exchanged`, for a step that is no worker's.
    gradients: those of the rows that were pushed.
  """

  step = NO_TICKET
  wire_dtype = tf.float32
  gradient_sums = None

  def __init__(self, routes):
    self.gradients = []
    self._routes = iter(routes)

  def pull(self, table, bags, row_width, route):
    del route
    return pull_now(table, bags, row_width, next(self._routes), answered=True)

  def push(self, table, messages, gradients):
    self.gradients += gradients
    table.send(messages)


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
  def push(self, row_gradients, show, click, scale=1.0):
    """Pushes gradients and counts to every table that was pulled from.

    Args:
      row_gradients: for each of `rows`, the gradient of the loss; None where the loss does not depend on it.
      show: float [B], what one occurrence in each example adds to its feasign's show.
      click: float [B], likewise for click.
      scale: what turns the gradients into those of the sum over examples of the loss.
    """
    exchange = current_exchange() or Routed(())
    by_table = {}
    for lookup, gradient in zip(self._lookups, row_gradients):
      gradient = tf.zeros_like(lookup.rows) if gradient is None else tf.convert_to_tensor(gradient)
      by_table.setdefault(lookup.table, []).append((lookup, gradient))
    for table, pairs in by_table.items():
      lookups, gradients = zip(*pairs)
      messages = native.ops.tfps_make_push(
        keys=[keys for lookup in lookups for keys in lookup.keys],
        slots=[slots for lookup in lookups for slots in lookup.slots],
        pulled=[reply for lookup in lookups for reply in lookup.replies],
        positions=[lookup.positions for lookup in lookups],
        row_splits=[lookup.row_splits for lookup in lookups],
        gradients=gradients,
        show=show,
        click=click,
        scale=scale,
        step=exchange.step,
        num_servers=table.num_servers,
        wire_dtype=exchange.wire_dtype,
      )
      exchange.push(table, messages, gradients)
