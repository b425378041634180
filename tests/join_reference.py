"""The join, record by record in plain Python: the judge of the engines."""

import collections
import dataclasses

from tfps.join.settings import Settings


@dataclasses.dataclass
class Show:
  """A feature record that was accepted."""

  ids: tuple
  time: int
  payload: str
  actions: list
  slice: int  # in which it waits: that of the record that came first
  open: bool = True
  given: set = dataclasses.field(default_factory=set)


class Reference:
  """Takes batches as a Joiner does.

  Samples are tuples of (ids, payload, label_time, show, click, labels, weights).
  """

  def __init__(self, settings: Settings):
    self.settings = settings
    self.shows = {}
    self.unmatched = []
    self.newest = {}
    self.watermark = None
    self.closed_below = self.forgotten_below = 1
    self.counts = collections.Counter()

  def step(self, features, actions, close=False):
    """features: (ids, time, payload) each; actions: (ids, time, kind's name, value) each.

    Returns samples.
    """
    samples = []
    for ids, time, payload in features:
      self.newest["features"] = max(self.newest.get("features", 0), time)
      self.counts["feature_records"] += 1
      known = self.shows.get(ids)
      if self.slice(time) < self.forgotten_below:
        self.counts["expired_features"] += 1
      elif known and known.slice >= self.forgotten_below:
        self.counts["duplicate_features"] += 1
        if self.settings.policy == "wait" and known.slice >= self.closed_below:
          known.time, known.payload = min((known.time, known.payload), (time, payload))
      else:
        self.counts["features"] += 1
        self.counts["late_features"] += self.slice(time) < self.closed_below
        self.shows[ids] = Show(ids, time, payload, [], self.slice(time))
        if self.settings.policy == "early":
          samples.append(self.sample(self.shows[ids], {}, time, show=1, weights=1))
    for _, time, _, _ in actions:
      self.newest["actions"] = max(self.newest.get("actions", 0), time)
      self.counts["actions"] += 1
    arrived, self.unmatched = self.unmatched + list(actions), []
    for action in arrived:
      show = self.shows.get(action[0])
      if show is None or show.slice < self.forgotten_below:
        self.unmatched.append(action)
      elif show.open:
        show.actions.append(action[1:])
      else:
        self.late(action[2])
    if self.settings.policy == "early":
      for show in self.shows.values():
        samples += self.positives(show)
    self.advance(close)
    for show in self.shows.values():
      if show.open and show.slice < self.closed_below:
        show.open = False
        if self.settings.policy == "wait":
          samples.append(self.whole(show))
    kept = []
    for action in self.unmatched:
      if action[1] + self.settings.skew_ms < (self.watermark or 0):
        self.counts["unmatched_actions"] += 1
      else:
        kept.append(action)
    self.unmatched = kept
    return samples

  def slice(self, time):
    return time // self.settings.slice_ms

  def late(self, kind):
    self.counts["late_actions"] += 1
    self.counts[f"late_actions/{kind}"] += 1

  def advance(self, close):
    settings = self.settings
    if close and self.newest:
      end = (max(self.newest.values()) // settings.slice_ms + 1) * settings.slice_ms
      self.watermark = max(self.watermark or 0, end + settings.wait_ms)
    elif len(self.newest) == 2:
      self.watermark = max(self.watermark or 0, min(self.newest.values()) - settings.disorder_ms)
    if self.watermark is not None:
      closed = (self.watermark - settings.wait_ms) // settings.slice_ms
      self.closed_below = max(self.closed_below, closed)
      remembered = -(-settings.remember_ms // settings.slice_ms)
      self.forgotten_below = max(self.forgotten_below, closed - remembered)

  def counts_for(self, show, label, action):
    time, kind, _ = action
    return (
      kind in (label.action, label.undo)
      and -self.settings.skew_ms <= time - show.time <= label.wait_ms
    )

  def whole(self, show):
    """The one sample of policy wait."""
    distinct = sorted(set(show.actions))
    self.counts["duplicate_actions"] += len(show.actions) - len(distinct)
    labels, label_time = {}, show.time
    for label in self.settings.labels:
      counted = [action for action in distinct if self.counts_for(show, label, action)]
      values = [action[2] for action in counted]
      if label.undo:
        last = max(((time, kind == label.undo) for time, kind, _ in counted), default=(0, True))
        labels[label.name] = float(not last[1])
      elif not label.value:
        labels[label.name] = float(bool(values))
      elif values:
        pick = {
          "max": max,
          "min": min,
          "sum": sum,
          "first": lambda v: v[0],
          "last": lambda v: v[-1],
        }
        labels[label.name] = pick[label.value](values)
    for action in distinct:
      if any(self.counts_for(show, label, action) for label in self.settings.labels):
        self.counts["used_actions"] += 1
        label_time = max(label_time, action[0])
      else:
        self.late(action[1])
    return self.sample(show, labels, label_time, show=1, weights=1)

  def positives(self, show):
    """The samples of policy early that are due for what came since."""
    distinct = sorted(set(show.actions))
    self.counts["duplicate_actions"] += len(show.actions) - len(distinct)
    show.actions = []
    samples = []
    for action in distinct:
      counted = [label for label in self.settings.labels if self.counts_for(show, label, action)]
      new = [label for label in counted if label.name not in show.given]
      for label in new:
        show.given.add(label.name)
        label_time = max(show.time, action[0])
        samples.append(
          self.sample(show, {label.name: 1.0}, label_time, show=0, weights={label.name: 1.0})
        )
      if not counted:
        self.late(action[1])
      else:
        self.counts["used_actions" if new else "duplicate_actions"] += 1
    return samples

  def sample(self, record, labels, label_time, show, weights):
    names = [label.name for label in self.settings.labels]
    labels = tuple(labels.get(name, 0.0) for name in names)
    weights = tuple(1.0 if weights == 1 else weights.get(name, 0.0) for name in names)
    click = float(labels[names.index(self.settings.click_label)] > 0)
    return (record.ids, record.payload, label_time, float(show), click, labels, weights)
