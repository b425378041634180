"""The plain reference: docs/semantics.md as a dict of rows and a loop.

It judges every engine, so it shares no code with any and prefers the obvious to the fast.

Precision: show, click, delta_score and scores are float64, as in the engines. Scaled gradients,
weights, optimizer states and adam's betas are float32; each step is computed in float64 from them
and rounded once. An engine that computes in float32 agrees to a few float32 roundings per step.
"""

import dataclasses
import functools

import numpy as np

PADDING = 0
RESERVED = (-(2**63), -(2**63) + 1)
MAX_UNSEEN_DAYS = 65535
UINT64 = 2**64 - 1
FLOAT32_MAX = float(np.finfo(np.float32).max)
COUNTS = ("show", "click")


def splitmix64(x):
  """Mixes an unsigned 64-bit integer (Steele, Lea and Flood, OOPSLA 2014)."""
  x = (x + 0x9E3779B97F4A7C15) & UINT64
  x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & UINT64
  x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & UINT64
  return x ^ (x >> 31)


@functools.lru_cache(1 << 20)
def virtual_shard(key, num_shards):
  """The virtual shard, in [0, num_shards), of an int64 key."""
  return ((splitmix64(key & UINT64) >> 32) * num_shards) >> 32


def initial_mf(seed, key, mf_dim, mf_init_range):
  """The mf vector, float32 [mf_dim], that `key` has at its admission."""
  mixed = splitmix64((seed ^ key) & UINT64)
  u = [(splitmix64((mixed + d) & UINT64) >> 40) / 2**24 for d in range(mf_dim)]
  return np.array([mf_init_range * (2 * x - 1) for x in u], np.float32)


def _to_float32(x):
  """The nearest float32, as a Python float."""
  return float(np.float32(x))


@dataclasses.dataclass(frozen=True)
class Accessor:
  """What the statistics of a feasign decide."""

  nonclk_coeff: float = 0.1
  clk_coeff: float = 1.0
  create_threshold: float = 10.0
  base_update_threshold: float = 1.5
  delta_update_threshold: float = 0.25
  delta_keep_days: int = 16
  delete_threshold: float = 0.8
  delete_after_unseen_days: int = 30
  decay_rate: float = 0.98

  def score(self, show, click):
    return (show - click) * self.nonclk_coeff + click * self.clk_coeff


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """The optimizer, by name, of either lr_w or mf_w; each uses the settings that it knows."""

  optimizer: str = "adagrad"
  learning_rate: float = 0.05
  initial_g2sum: float = 3.0
  beta1: float = 0.9
  beta2: float = 0.999
  epsilon: float = 1e-8
  alpha: float = 0.05
  beta: float = 1.0
  l1: float = 0.0
  l2: float = 0.0
  clipnorm: float = 0.0
  clipvalue: float = 0.0
  weight_min: float = -10.0
  weight_max: float = 10.0

  def state_size(self, n):
    """How many floats of state a vector of n weights has."""
    sizes = {"sgd": 0, "adagrad": 1, "std_adagrad": n, "adam": 2 * n + 2, "ftrl": 2 * n}
    return sizes[self.optimizer]

  def initial_state(self, n):
    state = np.zeros(self.state_size(n), np.float32)
    if self.optimizer == "adam":
      state[-2:] = 1  # beta1^0 and beta2^0
    return state

  def step(self, w, state, g):
    """One step: float32 weights [n] and state, gradient [n]; returns the new weights and state."""
    w, state = w.astype(np.float64), state.astype(np.float64)
    g = self._clipped(g if self.optimizer == "ftrl" else self._with_l2(w, g))
    w, state = getattr(self, "_" + self.optimizer)(w, state, g)
    w = np.clip(w, self.weight_min, self.weight_max)
    with np.errstate(over="ignore"):
      return w.astype(np.float32), state.astype(np.float32)

  def _with_l2(self, w, g):
    """The gradient of the loss with l2 / 2 times the sum of squares of the weights; float32."""
    with np.errstate(over="ignore"):
      return np.float32(g + self.l2 * w)

  def _clipped(self, g):
    """As Keras clips: by norm, or else by value; float32."""
    g = g.astype(np.float64)
    if self.clipnorm:
      return np.float32(g * min(1.0, self.clipnorm / max(np.linalg.norm(g), 1e-300))).astype(float)
    return np.clip(g, -self.clipvalue, self.clipvalue) if self.clipvalue else g

  def _sgd(self, w, state, g):
    return w - self.learning_rate * g, state

  def _adagrad(self, w, g2sum, g):
    scale = np.sqrt(self.initial_g2sum / (self.initial_g2sum + g2sum))
    return w - self.learning_rate * g * scale, g2sum + np.mean(g**2)

  def _std_adagrad(self, w, g2sum, g):
    scale = np.sqrt(self.initial_g2sum / (self.initial_g2sum + g2sum))
    return w - self.learning_rate * g * scale, g2sum + g**2

  def _adam(self, w, state, g):
    """Kingma and Ba, ICLR 2015, algorithm 1; t counts the steps of this row."""
    m, v, (beta1_power, beta2_power) = state[: g.size], state[g.size : -2], state[-2:]
    beta1, beta2 = _to_float32(self.beta1), _to_float32(self.beta2)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    # 1 - power is small, so it matters that the power is the one that is stored.
    beta1_power, beta2_power = _to_float32(beta1_power * beta1), _to_float32(beta2_power * beta2)
    m_hat, v_hat = m / (1 - beta1_power), v / (1 - beta2_power)
    w = w - self.learning_rate * m_hat / (np.sqrt(v_hat) + self.epsilon)
    return w, np.concatenate([m, v, [beta1_power, beta2_power]])

  def _ftrl(self, w, state, g):
    """McMahan et al., KDD 2013, algorithm 1."""
    z, n = state[: g.size], state[g.size :]
    sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / self.alpha
    z, n = z + g - sigma * w, n + g**2
    w = -(z - np.sign(z) * self.l1) / ((self.beta + np.sqrt(n)) / self.alpha + self.l2)
    state = np.clip(np.concatenate([z, n]), -FLOAT32_MAX, FLOAT32_MAX)
    return np.where(np.abs(z) <= self.l1, 0.0, w), state


@dataclasses.dataclass(frozen=True)
class Policy:
  """What the slot that created a row decides for it."""

  mf_dim: int = 8
  accessor: Accessor = Accessor()
  lr: Optimizer = Optimizer()
  mf: Optimizer = Optimizer()


@dataclasses.dataclass
class Row:
  """One feasign. lr and mf are pairs (weights, optimizer state); mf is None before admission."""

  slot: int
  lr: tuple
  mf: tuple | None = None
  show: float = 0.0
  click: float = 0.0
  delta_score: float = 0.0
  unseen_days: int = 0
  served: bool = False


@dataclasses.dataclass
class Part:
  """What one slot brings for a key."""

  slot: int
  show: float = 0.0
  click: float = 0.0
  step_show: float = np.nan
  gradient: np.ndarray | float = 0.0

  def add(self, show, click, step_show, gradient):
    self.show = _to_float32(self.show + show)
    self.click = _to_float32(self.click + click)
    if not np.isnan(step_show):
      self.step_show = np.nansum([self.step_show, step_show])
      self.gradient = self.gradient + gradient


class ReferenceTable:
  """A feasign table. Its methods take and give what the engines' do, as NumPy arrays.

  `slots` is {slot: Policy} for the slots that have one of their own.
  """

  def __init__(
    self,
    *,
    mf_dim=8,
    accessor=Accessor(),
    lr=Optimizer(),
    mf=Optimizer(),
    slots=None,
    gradient_scale="per_show",
    seed=0,
    mf_init_range=1e-4,
    max_rows=0,
    max_bytes=0,
    num_shards=1024,
  ):
    self.policy = Policy(mf_dim, accessor, lr, mf)
    self.slots = slots or {}
    self.mf_dim = max(policy.mf_dim for policy in (self.policy, *self.slots.values()))
    self.gradient_scale = gradient_scale
    self.seed = seed
    self.mf_init_range = mf_init_range
    self.num_shards = num_shards
    # What a shard may hold.
    self.shard_rows = max(1, max_rows // num_shards) if max_rows else np.inf
    self.shard_bytes = max(1, max_bytes // num_shards) if max_bytes else np.inf
    self.removals = []  # the served rows that left at the limit
    self.rows = {}
    self.finished_day = None
    self.counters = dict.fromkeys(
      (
        "reserved_pushes",
        "slot_conflicts",
        "nonfinite_gradients",
        "nonfinite_counts",
        "odd_clicks",
        "pulled_keys",
        "pushed_keys",
        "evicted",
        "evicted_at_limit",
      ),
      0,
    )

  def row(self, key):
    """The Row of a key, None if absent."""
    return self.rows.get(int(key))

  def keys(self):
    return sorted(self.rows)

  def set_learning_rates(self, rates, factor):
    """rates [P, 2]: of lr and mf of the table and of each slot with a policy, by number."""
    rated = lambda optimizer, rate: dataclasses.replace(optimizer, learning_rate=rate * factor)
    policies = [self.policy, *(self.slots[slot] for slot in sorted(self.slots))]
    self.policy, *others = (
      dataclasses.replace(policy, lr=rated(policy.lr, lr), mf=rated(policy.mf, mf))
      for policy, (lr, mf) in zip(policies, rates, strict=True)
    )
    self.slots = dict(zip(sorted(self.slots), others))

  def policy_of(self, row):
    return self.slots.get(row.slot, self.policy)

  def pull(self, keys, width=None):
    """keys: int64 [n]. Returns float32 [n, width]: lr_w, mf_w; zeros where there is none.

    The width is 1 + the largest mf_dim by default; a narrower pull cuts mf_w.
    """
    whole = np.zeros([len(keys), 1 + self.mf_dim], np.float32)
    for i, key in enumerate(keys):
      row = self.row(key)
      if row:
        whole[i, 0] = row.lr[0][0]
        if row.mf:
          whole[i, 1 : 1 + row.mf[0].size] = row.mf[0]
      self.counters["pulled_keys"] += key != PADDING and key not in RESERVED
    return whole[:, :width]

  def push(self, keys, slots, show, click, gradients, step_show=None):
    """Pushes n rows: keys, slots, show, click [n], gradients [n, .], the last 3 float32.

    The gradients are of lr_w and mf_w, as many as in the widest row or fewer. A key that repeats is
    pushed again, in order. `step_show` [n] is the show that the gradient is of, NaN where the row
    is frozen; `show` by default.
    """
    step_show = show if step_show is None else step_show
    columns = zip(keys, slots, show, click, step_show, gradients, strict=True)
    for key, slot, *counts, g in columns:
      self._push_row(int(key), int(slot), *map(float, counts), np.asarray(g, np.float32))
    for shard in {virtual_shard(int(key), self.num_shards) for key in keys}:
      self._keep_limit(shard)

  def push_read(self, keys, slots, show, click, gradients, readers, step_show=None):
    """Pushes n rows that several slots read, each as `push` has it, as one step of each key.

    `readers` [n] are 0 for a slot that reads its own rows, and another number for each slot that
    reads those of another one; negative if that does not count.
    """
    step_show = show if step_show is None else step_show
    parts = {}
    columns = zip(keys, slots, readers, show, click, step_show, gradients, strict=True)
    for key, slot, reader, *counts, step_show, g in columns:
      part = parts.setdefault(int(key), {}).setdefault(int(reader), Part(int(slot)))
      part.add(*map(float, counts), float(step_show), np.asarray(g, np.float32))
    # Those that count first: they make rows.
    for key, of_key in sorted(parts.items(), key=lambda item: max(item[1]) < 0):
      self._push_parts(key, of_key)
    for shard in {virtual_shard(key, self.num_shards) for key in parts}:
      self._keep_limit(shard)

  def _push_parts(self, key, parts):
    """One step of what {reader: Part} bring, those that count first."""
    counting = [part for reader, part in parts.items() if reader >= 0]
    stepping = counting + [part for reader, part in parts.items() if reader < 0]
    stepping = [part for part in stepping if not np.isnan(part.step_show)]
    gradient, step_show = None, np.nan
    if len(stepping) == 1:
      gradient, step_show = stepping[0].gradient, stepping[0].step_show
    elif stepping:
      gradient, step_show = sum(self._scaled(part.gradient, part.step_show) for part in stepping), 1
    show, click = (_to_float32(sum(getattr(part, name) for part in counting)) for name in COUNTS)
    slot = (counting or list(parts.values()))[0].slot
    self._push_row(key, slot, show, click, step_show, gradient, bool(counting))

  def _scaled(self, gradient, step_show):
    if self.gradient_scale == "per_show" and step_show > 0:
      with np.errstate(over="ignore"):
        return np.float32(np.float64(gradient) / step_show)
    return gradient

  def _push_row(self, key, slot, show, click, step_show, gradient, counts=True):
    if key == PADDING:
      return
    if key in RESERVED:
      self.counters["reserved_pushes"] += 1
      return
    if not (np.isfinite(show) and np.isfinite(click)):
      self.counters["nonfinite_counts"] += 1
      return
    self.counters["odd_clicks"] += click < 0 or click > show + 1e-5 * abs(show)
    if key not in self.rows and not counts:
      return
    if key not in self.rows:
      lr = self.slots.get(slot, self.policy).lr
      self.rows[key] = Row(slot, (np.zeros(1, np.float32), lr.initial_state(1)))
    row = self.rows[key]
    policy = self.policy_of(row)
    if row.slot != slot:
      self.counters["slot_conflicts"] += 1
    self.counters["pushed_keys"] += 1

    row.show += show
    row.click += click
    row.delta_score += policy.accessor.score(show, click)
    row.unseen_days = 0
    if np.isnan(step_show):
      return

    # The row's own weights: those that the push does not reach have a gradient of zero.
    gradient = gradient[: 1 + policy.mf_dim]
    gradient = np.pad(gradient, (0, 1 + policy.mf_dim - gradient.size))
    gradient = self._scaled(gradient, step_show)
    if not (np.all(np.isfinite(gradient)) and self._step(row, policy, gradient)):
      self.counters["nonfinite_gradients"] += 1

    accessor = policy.accessor
    score = accessor.score(row.show, row.click)
    if counts and not row.mf and score >= accessor.create_threshold:
      row.mf = (
        initial_mf(self.seed, key, policy.mf_dim, self.mf_init_range),
        policy.mf.initial_state(policy.mf_dim),
      )

  def _step(self, row, policy, gradient):
    """Takes the steps of a row, all or none: returns whether what they leave is finite."""
    lr = policy.lr.step(*row.lr, gradient[:1])
    mf = row.mf and policy.mf.step(*row.mf, gradient[1:])
    if not all(np.all(np.isfinite(part)) for part in (*lr, *(mf or ()))):
      return False
    row.lr, row.mf = lr, mf
    return True

  def _keep_limit(self, shard):
    """A shard that holds more than its share evicts its lowest scores until a 32nd is free."""
    if self.shard_rows == self.shard_bytes == np.inf:
      return
    keys = self._keys_of(shard)
    if len(keys) <= self.shard_rows and self._bytes(keys) <= self.shard_bytes:
      return
    keys.sort(key=self._leaves_first, reverse=True)
    most_rows, most_bytes = (
      share - share // 32 if share < np.inf else share
      for share in (self.shard_rows, self.shard_bytes)
    )
    while len(keys) > most_rows or self._bytes(keys) > most_bytes:
      key = keys.pop()
      if self.rows.pop(key).served:
        self.removals.append(key)
      self.counters["evicted_at_limit"] += 1

  def _keys_of(self, shard):
    return [key for key in self.rows if virtual_shard(key, self.num_shards) == shard]

  def _leaves_first(self, key):
    """The lowest score leaves first.

    Of equals that which was not seen for longest, then the smallest key.
    """
    row = self.rows[key]
    return self.policy_of(row).accessor.score(row.show, row.click), -row.unseen_days, key

  def _bytes(self, keys):
    """48 bytes a row and 4 for each of its floats, in whole 8 bytes."""
    floats = [sum(part.size for part in (*row.lr, *(row.mf or ()))) for row in map(self.row, keys)]
    return sum(48 + -(-4 * n // 8) * 8 for n in floats)

  def fullness(self):
    """Of the fullest shard, the larger share that is used of its rows or bytes."""
    shards = {virtual_shard(key, self.num_shards) for key in self.rows}
    parts = [self._keys_of(shard) for shard in shards]
    return max(
      (max(len(keys) / self.shard_rows, self._bytes(keys) / self.shard_bytes) for keys in parts),
      default=0.0,
    )

  def end_of_day(self, day):
    """Ends the day with this ordinal, once. Returns how many feasigns were evicted."""
    if self.finished_day is not None and day <= self.finished_day:
      return 0
    self.finished_day = day
    evicted = self.evictable()
    for key in evicted:
      del self.rows[key]
    self.counters["evicted"] += len(evicted)
    for row in self.rows.values():
      decay_rate = self.policy_of(row).accessor.decay_rate
      row.unseen_days = min(row.unseen_days + 1, MAX_UNSEEN_DAYS)
      row.show *= decay_rate
      row.click *= decay_rate
    return len(evicted)

  def evictable(self):
    """The keys that would be evicted if a day ended now."""
    return [key for key, row in self.rows.items() if self._is_dead(row)]

  def _is_dead(self, row):
    accessor = self.policy_of(row).accessor
    return (
      row.unseen_days > accessor.delete_after_unseen_days
      or accessor.score(row.show, row.click) < accessor.delete_threshold
    )

  def statistics(self):
    """All of the engines' statistics but `bytes`, by name."""
    return {
      "rows": len(self.rows),
      "admitted": sum(row.mf is not None for row in self.rows.values()),
      "show": sum(row.show for row in self.rows.values()),
      "click": sum(row.click for row in self.rows.values()),
      **self.counters,
      "fullness_max": self.fullness(),
    }
