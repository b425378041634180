"""The vectors of all items, from an exported item tower, in an index that deltas refresh."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

import tfps

_BATCH = 4096


class ItemIndex:
  """Finds the items with the highest scores for a user's vector.

  The vector of an item changes where a row of one of its feasigns does, or the tower's dense
  weights. A delta changes the vectors of some items at once; while the dense weights move, those of
  the others are a little older until `refresh`.

  Args:
    base: the base of the item tower.
    raw: the tower's `tfps.data.RawInputs`.
    items: raw inputs of all items, arrays [N, ...] by name.

  Attributes:
    vectors: float32 [N, dim].
  """

  def __init__(self, base: str, raw: tfps.data.RawInputs, items: Mapping[str, np.ndarray]) -> None:
    self._session = tfps.export.SavedModelSession(base)
    self._items = {name: np.asarray(items[name]) for name in raw.specs}
    tensors = {name: tf.constant(self._items[name], spec.dtype) for name, spec in raw.specs.items()}
    features = raw.features(tensors).values()
    self._feasigns = np.concatenate([_flat(feature) for feature in features], axis=1)
    self.refresh()

  def refresh(self) -> None:
    """Computes all vectors anew."""
    self.vectors = self._vectors(np.arange(len(self._feasigns)))
    self._index = _make_index(self.vectors)

  def apply(self, delta: str) -> np.ndarray:
    """Applies a delta of the item tower; returns the numbers of the items that it changed."""
    for chunk in tfps.export.delta_chunks(delta):
      self._session.run(chunk, "apply_delta")
    (changed_feasigns,) = tfps.export.changed_feasigns(delta).values()
    changed = np.flatnonzero(np.isin(self._feasigns, changed_feasigns).any(axis=1))
    if len(changed):
      self.vectors[changed] = self._vectors(changed)
      self._index.update(changed, self.vectors)
    return changed

  def search(self, users: np.ndarray, k: int) -> np.ndarray:
    """int [U, k]: the numbers of the items with the highest scores, the highest first."""
    return self._index.search(np.asarray(users, np.float32), k)

  def _vectors(self, numbers: np.ndarray) -> np.ndarray:
    parts = []
    for first in range(0, len(numbers), _BATCH):
      batch = {
        name: values[numbers[first : first + _BATCH]] for name, values in self._items.items()
      }
      (vectors,) = self._session.run(batch).values()
      parts.append(vectors)
    return np.concatenate(parts)


class _BruteForce:
  """Scores all items."""

  def __init__(self, vectors: np.ndarray) -> None:
    self._vectors = vectors.copy()

  def update(self, numbers: np.ndarray, vectors: np.ndarray) -> None:
    self._vectors[numbers] = vectors[numbers]

  def search(self, users: np.ndarray, k: int) -> np.ndarray:
    scores = users @ self._vectors.T
    best = np.argpartition(-scores, min(k, scores.shape[1] - 1), axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


class _Hnsw:
  """hnswlib's graph; adding an item again replaces its vector."""

  def __init__(self, vectors: np.ndarray) -> None:
    import hnswlib

    self._index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    self._index.init_index(max_elements=len(vectors))
    self._index.add_items(vectors, np.arange(len(vectors)))

  def update(self, numbers: np.ndarray, vectors: np.ndarray) -> None:
    self._index.add_items(vectors[numbers], numbers)

  def search(self, users: np.ndarray, k: int) -> np.ndarray:
    self._index.set_ef(max(2 * k, 50))
    return self._index.knn_query(users, k)[0].astype(np.int64)


class _Faiss:
  """A flat index of FAISS with numbers; a changed item is removed and added again."""

  def __init__(self, vectors: np.ndarray) -> None:
    import faiss

    self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    self._index.add_with_ids(vectors, np.arange(len(vectors)))

  def update(self, numbers: np.ndarray, vectors: np.ndarray) -> None:
    self._index.remove_ids(numbers)
    self._index.add_with_ids(vectors[numbers], numbers)

  def search(self, users: np.ndarray, k: int) -> np.ndarray:
    return self._index.search(users, k)[1]


def _make_index(vectors: np.ndarray) -> Any:
  """hnswlib's or FAISS's index where one of them is installed, otherwise one that scores all."""
  if importlib.util.find_spec("hnswlib"):
    return _Hnsw(vectors)
  if importlib.util.find_spec("faiss"):
    return _Faiss(vectors)
  return _BruteForce(vectors)


def _flat(feature: Any) -> np.ndarray:
  """int64 [N, k]: the feasigns of a slot, 0 as padding."""
  if isinstance(feature, tf.RaggedTensor):
    feature = feature.to_tensor()
  return np.reshape(feature.numpy(), [feature.shape[0], -1])
