"""A small world: users in segments, items in topics, and a taste that changes."""

import numpy as np

USERS, SEGMENTS = 500, 8
ITEMS, TOPICS = 156, 13
HOT = TOPICS - 1  # The topic that nobody likes until all do.
_BASE, _LIKED, _QUALITY = -3.0, 2.6, 0.4  # of the logit of a click


class World:
  """The users' taste.

  Before the change each segment likes two topics of its own, afterwards everybody the hot one.

  Args:
    seed: everything derives from it.

  Attributes:
    changed: whether taste has changed.
  """

  def __init__(self, seed: int) -> None:
    rng = np.random.default_rng(seed)
    self.changed = False
    self.segments = rng.integers(0, SEGMENTS, USERS)
    self.topics = np.arange(ITEMS) % TOPICS
    self._quality = rng.normal(0, _QUALITY, ITEMS)
    self._likes = np.zeros([SEGMENTS, TOPICS], bool)
    for segment in range(SEGMENTS):
      self._likes[segment, rng.choice(HOT, 2, replace=False)] = True

  def click_probability(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """float64: of users and items, integer arrays of one shape."""
    topics = self.topics[items]
    likes = topics == HOT if self.changed else self._likes[self.segments[users], topics]
    logit = _BASE + _LIKED * likes + self._quality[items]
    return 1 / (1 + np.exp(-logit))

  def features(self, users: np.ndarray, items: np.ndarray) -> dict[str, list[str]]:
    """{name: texts} as the server is asked and the log has them, of integer arrays [n]."""
    text = lambda prefix, numbers: [f"{prefix}{number}" for number in numbers.tolist()]
    return {
      "user_id": text("u", users),
      "segment": text("s", self.segments[users]),
      "item_id": text("i", items),
      "topic": text("t", self.topics[items]),
    }
