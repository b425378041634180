"""FeasignTable: the dynamic-embedding table, spread over the parameter servers."""

from __future__ import annotations

import re
import uuid
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfps import native
from tfps.errors import NonfiniteError
from tfps.table import engines, eviction, limits, placement
from tfps.table.accessor import CtrAccessor
from tfps.table.learning_rates import LearningRates
from tfps.table.optimizers import Adagrad, SparseOptimizer
from tfps.table.policy import SlotPolicy, check_policies
from tfps.table.row import split_rows

_GRADIENT_SCALES = ("per_show", "sum")


class Server(NamedTuple):
  """A part of a table: its device, and its resource handle for the ops of `tfps.native`."""

  device: str
  handle: tf.Tensor


class FeasignTable:
  """A hash table of feasigns: statistics, a 1-dimensional weight and, once admitted, an mf vector.

  Make it inside `strategy.scope()`. Under a ParameterServerStrategy each parameter server holds the
  feasigns of its virtual shards; otherwise all rows are in this process.

  Args:
    name: the table's name, one per model or shared between models of a process.
    mf_dim: length of the mf vector (the embedding).
    accessor: a `CtrAccessor`: admission, export and eviction.
    optimizer: sparse optimizer of the mf vectors.
    lr_optimizer: sparse optimizer of the 1-dimensional weights; `optimizer` by default.
    slot_policies: {slot name: `tfps.SlotPolicy`}, for slots in which some of these four differ. A
      row has the policy of the slot that created it.
    gradient_scale: "per_show" steps with the mean gradient per occurrence, "sum" with the sum.
    mf_init_range: mf vectors start uniform in [-mf_init_range, mf_init_range].
    seed: of the initial mf vectors, which are a pure function of (seed, feasign, dimension).
    num_shards: number of virtual shards, fixed for the life of the table.
    max_rows: the most feasigns of the whole table; a virtual shard that exceeds its share evicts
      the feasigns with the lowest scores at once. 0: no limit.
    max_bytes: likewise the most bytes of all rows and their index; a process needs some more
      memory. 0: no limit.
    engine: "native", or "tfra" to hold the rows in the CuckooHashTables of TensorFlow Recommenders
      Addons, which must be installed on the parameter servers (docs/engines.md says what that
      costs). Rows and files are the same.

  Raises:
    ValueError: if a setting is out of its range, or the engine is not installed.

  Examples:
    >>> table = tfps.FeasignTable(
    ...   "ctr", mf_dim=16, slot_policies={"gender": tfps.SlotPolicy(mf_dim=4)}
    ... )
    >>> table.mf_dim_of("user_id"), table.mf_dim_of("gender")
    (16, 4)
    >>> table.statistics()["rows"]
    0.0
  """

  def __init__(
    self,
    name: str,
    *,
    mf_dim: int = 8,
    accessor: CtrAccessor | None = None,
    optimizer: SparseOptimizer | None = None,
    lr_optimizer: SparseOptimizer | None = None,
    slot_policies: Mapping[str, SlotPolicy] | None = None,
    gradient_scale: str = "per_show",
    mf_init_range: float = 1e-4,
    seed: int = 0,
    num_shards: int = placement.DEFAULT_SHARDS,
    max_rows: int = 0,
    max_bytes: int = 0,
    engine: str = "native",
  ) -> None:
    if mf_dim < 1:
      raise ValueError(f"FeasignTable '{name}': mf_dim must be 1 or more, not {mf_dim}.")
    if gradient_scale not in _GRADIENT_SCALES:
      raise ValueError(
        f"FeasignTable '{name}': gradient_scale must be one of {_GRADIENT_SCALES}, "
        f"not '{gradient_scale}'."
      )
    if engine not in engines.ENGINES:
      raise ValueError(
        f"FeasignTable '{name}': engine must be one of {engines.ENGINES}, not '{engine}'."
      )
    limits.check(f"FeasignTable '{name}'", num_shards, max_rows, max_bytes)
    self.name = name
    self.engine = engine
    self.mf_dim = mf_dim
    self.accessor = accessor or CtrAccessor()
    self.optimizer = optimizer or Adagrad()
    self.lr_optimizer = lr_optimizer or self.optimizer
    self.gradient_scale = gradient_scale
    self.mf_init_range = mf_init_range
    self.seed = seed
    self.num_shards = num_shards
    self.max_rows = max_rows
    self.max_bytes = max_bytes
    self._policy = SlotPolicy(
      mf_dim=mf_dim,
      accessor=self.accessor,
      optimizer=self.optimizer,
      lr_optimizer=self.lr_optimizer,
    )
    self._slot_ids: dict[str, int] = {}
    self._slot_policies = check_policies(slot_policies)
    for slot in self._slot_policies:
      self.slot_id(slot)
    devices = placement.server_devices()
    self._assignment = placement.assign_shards(num_shards, len(devices))
    self._assignment_is_fixed = False
    # A new object is a new table, even if these processes had a table of this name before.
    shared_name = f"{name}-{uuid.uuid4().hex}"
    self._handles = []
    self._devices = devices
    for device in devices:
      handle = engines.make_table(name, engine, shared_name, self.options, device)
      self._handles.append(handle)
      weakref.finalize(self, native.free, handle, device).atexit = False
    slots = sorted(self._slot_policies, key=self.slot_id)
    policies = [self.policy_of(slot) for slot in (None, *slots)]
    self.learning_rates = LearningRates(policies, self._handles)

  @property
  def learning_rate_factor(self) -> float:
    """What every learning rate of the table is multiplied by, scheduled or not; 1 at first.

    It may be set at any time, while `fit` runs, too, and is in no checkpoint.

    Raises:
      ValueError: on setting it, if it is below 0 or not finite, or an optimizer is FTRL.
    """
    return self.learning_rates.factor

  @learning_rate_factor.setter
  def learning_rate_factor(self, factor: float) -> None:
    self.learning_rates.factor = factor

  def __reduce__(self) -> Any:
    raise NotImplementedError(
      f"the rows of table '{self.name}' are on parameter servers, and cannot be copied or pickled: "
      "keep them with tfps.checkpoint.CheckpointManager, and restore them into another table."
    )

  @property
  def options(self) -> str:
    """The settings in the form that the engine reads: `name=value` pairs separated by ";"."""
    pairs = {
      "num_shards": self.num_shards,
      "seed": self.seed,
      "mf_init_range": self.mf_init_range,
      "gradient_scale": self.gradient_scale,
      "max_rows": self.max_rows,
      "max_bytes": self.max_bytes,
      **self._policy.options,
    }
    for slot, policy in self._slot_policies.items():
      for name, value in policy.options.items():
        pairs[f"slot.{self._slot_ids[slot]}.{name}"] = value
    return ";".join(f"{name}={value}" for name, value in pairs.items())

  @property
  def slot_policies(self) -> dict[str, SlotPolicy]:
    """{slot name: `tfps.SlotPolicy`}, as given."""
    return dict(self._slot_policies)

  def policy_of(self, slot: str | None) -> SlotPolicy:
    """The complete `tfps.SlotPolicy` of a slot: its own settings over the table's."""
    own = None if slot is None else self._slot_policies.get(slot)
    return self._policy if own is None else own.over(self._policy)

  def mf_dim_of(self, slot: str) -> int:
    """Length of the mf vectors of the slot named `slot`."""
    return self.policy_of(slot).layout.row.mf_dim

  @property
  def row_width(self) -> int:
    """Floats of a row pulled in full: the 1-dimensional weight and the longest mf vector."""
    return 1 + max(policy.layout.row.mf_dim for policy in self._policies())

  @property
  def num_servers(self) -> int:
    """Number of parameter servers that hold rows (1 without a cluster)."""
    return len(self._handles)

  @property
  def servers(self) -> list[Server]:
    """A `Server` for each parameter server that holds rows, in their order."""
    return [Server(*server) for server in zip(self._devices, self._handles)]

  @property
  def slots(self) -> dict[str, int]:
    """{slot name: its number}."""
    return dict(self._slot_ids)

  def slot_id(self, slot: str) -> int:
    """The number (1, 2, ...) of the slot named `slot`, given at its first use."""
    return self._slot_ids.setdefault(slot, max(self._slot_ids.values(), default=0) + 1)

  @property
  def assignment(self) -> np.ndarray:
    """int32 array [num_shards]: the server that holds each virtual shard."""
    return self._assignment

  def fix_assignment(self) -> np.ndarray:
    """The assignment, for a function that is traced with it: `place` no longer changes it."""
    self._assignment_is_fixed = True
    return self._assignment

  def place(self, assignment: np.ndarray) -> bool:
    """Moves the virtual shards to other servers, unless there are rows or the assignment is fixed.

    Args:
      assignment: int array [num_shards] of numbers in [0, num_servers).

    Returns:
      Whether the shards are placed so now.
    """
    if np.array_equal(assignment, self._assignment):
      return True
    if self._assignment_is_fixed or self.statistics()["rows"]:
      return False
    self._assignment = np.asarray(assignment, np.int32)
    return True

  def pull(self, keys: Sequence[tf.Tensor], row_width: int | None = None) -> tf.Tensor:
    """Reads rows; never creates, changes or ages anything.

    Args:
      keys: a list of int64 tensors [n_s], the feasigns wanted of each server.
      row_width: floats wanted of each row, from 2 to `FeasignTable.row_width`, the default.

    Returns:
      float32 [sum of n_s, row_width]: `lr_w` and `mf_w`, servers in order. An absent feasign reads
      zeros, a feasign that is not admitted a zero mf vector. A shorter mf vector ends in zeros, a
      longer one is cut.
    """
    row_width = row_width or self.row_width
    rows = [
      native.ops.tfps_pull(table=handle, keys=server_keys, row_width=row_width)
      for handle, server_keys in zip(self._handles, keys)
    ]
    return rows[0] if len(rows) == 1 else tf.concat(rows, axis=0)

  def pull_counts(self, keys: Sequence[tf.Tensor]) -> tf.Tensor:
    """Reads shows and clicks; never creates, changes or ages anything.

    Args:
      keys: a list of int64 tensors [n_s], the feasigns wanted of each server.

    Returns:
      float32 [sum of n_s, 2]: show and click, servers in order; zeros for an absent feasign.
    """
    counts = [
      native.ops.tfps_pull_counts(table=handle, keys=server_keys)
      for handle, server_keys in zip(self._handles, keys)
    ]
    return counts[0] if len(counts) == 1 else tf.concat(counts, axis=0)

  def push(self, parts: Sequence[Sequence[tf.Tensor]]) -> None:
    """Sends one batch's merged gradients and counts, one message per server.

    Args:
      parts: for each server (keys int64 [n], slots int32 [n], show float32 [n], click float32 [n],
        gradients float32 [n, row_width]), each feasign once. An mf vector that is longer than
        row_width - 1 takes zero gradients for the rest; a shorter one ignores the gradients beyond
        it.
    """
    for handle, part in zip(self._handles, parts):
      native.ops.tfps_push(handle, *part)

  def exchange(
    self,
    keys: Sequence[tf.Tensor],
    pushes: Sequence[tf.Tensor],
    row_width: int,
    *,
    wire_dtype: tf.DType = tf.float32,
    references: bool = True,
    counts: bool = False,
    accumulate: bool = False,
  ) -> list[tf.Tensor]:
    """Pushes and then pulls, in one message to each server and one back.

    Args:
      keys: a list of int64 tensors [n_s], the feasigns wanted of each server.
      pushes: for each server uint8 [m], any number of messages of `TfpsMakePush`, concatenated.
      row_width: floats wanted of each row.
      wire_dtype: the dtype in which rows are sent.
      references: whether rows come with references, by which a push finds them again; only the
        native engine has references.
      counts: whether rows come with their shows and clicks.
      accumulate: keep what is pushed until `apply_accumulated`.

    Returns:
      For each server uint8 [m], its reply.
    """
    return [
      native.ops.tfps_exchange(
        table=handle,
        request=native.ops.tfps_make_request(keys=server_keys, pushes=push),
        row_width=row_width,
        wire_dtype=wire_dtype,
        references=references and self.engine == "native",
        counts=counts,
        accumulate=accumulate,
      )
      for handle, server_keys, push in zip(self._handles, keys, pushes)
    ]

  def read_replies(self, replies: Sequence[tf.Tensor], row_width: int) -> tf.Tensor:
    """The rows in the replies of `exchange`: float32 [sum of n_s, row_width], servers in order."""
    return native.ops.tfps_read_pulled(messages=replies, row_width=row_width)

  def read_counts(self, replies: Sequence[tf.Tensor]) -> tf.Tensor:
    """Show and click of each row in the replies of `exchange` with counts: float32 [., 2]."""
    return native.ops.tfps_read_pulled_counts(messages=replies)

  def no_messages(self) -> list[tf.Tensor]:
    """The `pushes` of an `exchange` that pushes nothing."""
    return [tf.zeros([0], tf.uint8)] * self.num_servers

  def send(self, pushes: Sequence[tf.Tensor], **options: Any) -> None:
    """Pushes without pulling; see `exchange`."""
    self.exchange([tf.zeros([0], tf.int64)] * self.num_servers, pushes, 2, **options)

  def apply_accumulated(self) -> None:
    """Pushes what was accumulated, merged by feasign, as one batch.

    Returns once every server has applied it.
    """
    rows = [native.ops.tfps_apply_accumulated(table=handle) for handle in self._handles]
    for applied in rows:
      applied.numpy()  # An op on another process may still run when the call returns.

  def upsert(
    self,
    keys: Any,
    slots: Any,
    statistics: Any,
    unseen_days: Any,
    flags: Any,
    floats: Any,
    offsets: Any,
  ) -> None:
    """Inserts whole rows, or replaces the rows of their keys; each row is one atomic step.

    Args:
      keys: int64 [n], none of them padding or reserved.
      slots: int32 [n], numbers as `slot_id` gives them.
      statistics: float64 [n, 3]: show, click, delta_score.
      unseen_days: uint16 [n].
      flags: uint16 [n]: 1 admitted, 2 served.
      floats: float32 [m]: `lr_w`, lr state and, of an admitted row, `mf_w`, mf state.
      offsets: int64 [n + 1]: row i has floats[offsets[i]:offsets[i + 1]].

    Raises:
      tf.errors.InvalidArgumentError: a key or the number of floats is wrong. That server takes none
        of the rows.
    """
    keys, offsets = np.asarray(keys, np.int64), np.asarray(offsets, np.int64)
    server_of = self._assignment[placement.virtual_shards(keys, self.num_shards)]
    float_server = np.repeat(server_of, np.diff(offsets))
    for server, handle in enumerate(self._handles):
      mine = server_of == server
      native.ops.tfps_upsert(
        table=handle,
        keys=keys[mine],
        slots=np.asarray(slots, np.int32)[mine],
        statistics=np.asarray(statistics, np.float64)[mine],
        unseen_days=np.asarray(unseen_days, np.uint16)[mine],
        flags=np.asarray(flags, np.uint16)[mine],
        floats=np.asarray(floats, np.float32)[float_server == server],
      )

  def end_of_day(
    self,
    day: int,
    *,
    before_eviction: Sequence[eviction.Hook] = (),
    after_eviction: Sequence[eviction.Hook] = (),
    chunk_rows: int = eviction.CHUNK_ROWS,
  ) -> int:
    """Evicts, then ages and decays every row, on the parameter servers themselves.

    A shard in which `day` has ended already does nothing, so that an interrupted day's end can be
    run again. With hooks, the day ends range of shards by range of shards: the rows that will leave
    are shown, they leave, and the rows that left are shown. A row that is pushed between being
    shown and leaving may stay; no row leaves that was not shown. Without hooks no row is sent to
    this process.

    Args:
      day: ordinal of the day that ends; later days have larger ones.
      before_eviction: functions of one `tfps.eviction.EvictedRows`, called with the feasigns that
        will leave.
      after_eviction: functions of one `tfps.eviction.EvictedRows`, called with the feasigns that
        have left, each once.
      chunk_rows: the most rows that a hook gets at a time.

    Returns:
      The number of evicted feasigns.

    Raises:
      ValueError: if the hooks are not lists of functions, or chunk_rows is less than 1.
    """
    before = eviction.check_hooks("before_eviction", before_eviction)
    after = eviction.check_hooks("after_eviction", after_eviction)
    if chunk_rows < 1:
      raise ValueError(f"chunk_rows must be 1 or more, not {chunk_rows}.")
    if before or after:
      return eviction.end_of_day(self, self._handles, day, before, after, chunk_rows)
    evicted = [
      native.ops.tfps_end_of_day(table=handle, day=tf.constant(day, tf.int64))
      for handle in self._handles
    ]
    return int(sum(part.numpy() for part in evicted))

  def evictable(self) -> dict[str | int, int]:
    """Counts the feasigns that a day's end would evict now; no row leaves its server.

    Returns:
      {slot name: number of feasigns}, for the slots that would lose any; a slot whose name this
      object does not know is there by its number.
    """
    names = {number: slot for slot, number in self._slot_ids.items()}
    counts = eviction.count_evictable(self._handles, tf.int64.max)
    return {names.get(slot, slot): count for slot, count in counts.items()}

  def clocks(self) -> list[int]:
    """For each server, the number after the largest ticket of any push; 0 without one."""
    numbers = []
    for handle in self._handles:
      finished_below, running = native.ops.tfps_clock(table=handle)
      numbers.append(max([int(finished_below), *(running.numpy()[:, 0] + 1).tolist()]))
    return numbers

  def set_clocks(self, finished_below: int) -> None:
    """Makes every server drop pushes of tickets with smaller numbers, and only of these."""
    for handle in self._handles:
      native.ops.tfps_set_clock(table=handle, finished_below=tf.constant(finished_below, tf.int64))

  def statistics(self) -> dict[str, float]:
    """Totals over all servers; for names that end in "_max" the largest value.

    Returns:
      {name: float}: rows, admitted, bytes (reserved by rows and index), show, click (totals), and
      the counters reserved_pushes, slot_conflicts, nonfinite_gradients, nonfinite_counts,
      odd_clicks, pulled_keys, pushed_keys, evicted, pushes (messages that were applied),
      repeated_pushes (messages that were dropped, as they had been applied before), staleness_sum
      and staleness_max (how many messages a server applied between a step's pull and its push) and
      tickets_ahead_max (how far the number of a ticket that had pushed was ahead of one that pushed
      later).
    """
    totals: dict[str, float] = {}
    for handle in self._handles:
      names, values = native.ops.tfps_statistics(table=handle)
      for name, value in zip(names.numpy(), values.numpy()):
        name, value = name.decode(), float(value)
        before = totals.get(name, 0.0)
        totals[name] = max(before, value) if name.endswith("_max") else before + value
    return totals

  def lookup(self, keys: Any) -> dict[str, np.ndarray]:
    """Reads whole rows of a few feasigns, for inspection and for tests.

    Args:
      keys: int64 array-like [n].

    Returns:
      A dict of NumPy arrays, in the order of `keys`: found bool [n], slot int32 [n], statistics
      float64 [n, 3] (show, click, delta_score), unseen_days int32 [n], admitted bool [n], served
      bool [n], and float32 lr_w [n], lr_state [n, .], mf_w [n, .] and mf_state [n, .], as wide as
      the widest slot's, with zeros where a row has less.
    """
    keys = np.asarray(keys, np.int64).reshape(-1)
    row_floats = max(policy.layout.row.width(True) for policy in self._policies())
    result: dict[str, np.ndarray] = {}
    for handle in self._handles:
      # A server does not find the keys of another server: each row comes from one of them.
      part = native.ops.tfps_inspect(table=handle, keys=keys, row_floats=row_floats)
      part = {name: value.numpy() for name, value in part._asdict().items()}
      if not result:
        result = part
      else:
        for name, value in part.items():
          result[name][part["found"]] = value[part["found"]]
    layouts = {
      self._slot_ids[slot]: self.policy_of(slot).layout.row for slot in self._slot_policies
    }
    return result | split_rows(
      result.pop("floats"), result["slot"], layouts, self._policy.layout.row
    )

  def nonfinite(self, error: tf.errors.OpError, what: str) -> NonfiniteError:
    """The error of a server that refused to give a row that is not finite to a file."""
    found = re.search(r"Feasign -?\d+ has [^.]*not finite", error.message)
    problem = found[0] if found else error.message
    return NonfiniteError(
      f"table '{self.name}': {problem}, so no {what} is written and the last good one stays: go on "
      "from it with a smaller learning rate of the table."
    )

  def _policies(self) -> list[SlotPolicy]:
    """Every complete policy there is."""
    return [self._policy, *(self.policy_of(slot) for slot in self._slot_policies)]
