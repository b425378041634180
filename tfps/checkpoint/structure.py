"""What the dense weights of a model belong to: its slots in their order, and its layers by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from tfps.checkpoint.manifest import DenseManifest, EmbeddingManifest, WeightManifest
from tfps.errors import CheckpointError
from tfps.layers.embedding import embeddings_of

if TYPE_CHECKING:
  import tf_keras as keras


class Difference(NamedTuple):
  """One thing in which a model differs from the one that a checkpoint was saved of.

  Attributes:
    names: what `may_differ` must name so that it is allowed: slots, or one weight; () if it never
      is.
    text: what differs, as half a sentence.
    of_slots: whether it is the slots of a layer, and not a weight.
  """

  names: tuple[str, ...]
  text: str
  of_slots: bool = False


def of(model: keras.Model) -> DenseManifest:
  """What the manifest of a checkpoint says of the dense weights of a model."""
  paths = paths_of(model)
  trainable = {id(weight) for weight in model.trainable_weights}
  # In this order the optimizer keeps what belongs to them.
  weights = [*model.trainable_weights, *model.non_trainable_weights]
  return DenseManifest(
    embeddings=[
      EmbeddingManifest(
        layer=paths.get(id(layer)) or layer.name,
        table=layer.table.name,
        pooled=list(layer.pooled_slots),
        sequences=list(layer.sequence_slots),
        mf_dim=layer.mf_dim,
      )
      for layer in embeddings_of(model)
    ],
    weights=[
      WeightManifest(
        name=paths[id(weight)], shape=weight.shape.as_list(), trainable=id(weight) in trainable
      )
      for weight in weights
      if id(weight) in paths
    ],
  )


def paths_of(model: keras.Model) -> dict[int, str]:
  """The path of every trackable object below a model, by its identity: attributes, with slashes.

  An object with several paths has the shortest one. The optimizer of a compiled model is left out,
  because its lists lead to the weights, too.
  """
  view = tf.train.TrackableView(model)
  found = {id(model): ""}
  waiting: list[object] = [model]
  while waiting:
    following = []
    for parent in waiting:
      prefix = f"{found[id(parent)]}/".lstrip("/")
      for name, child in sorted(view.children(parent).items(), key=lambda pair: _order(pair[0])):
        if id(child) not in found and child is not model.optimizer:
          found[id(child)] = prefix + name
          following.append(child)
    waiting = following
  return found


def _order(name: str) -> tuple:
  # Of a functional model's layers those with weights have numbers that others do not shift.
  return name.startswith("layer-"), len(name) if name.isdigit() else 0, name


def differences(saved: DenseManifest, here: DenseManifest) -> list[Difference]:
  """In what a model (`here`) differs from the one that was saved, those of slots first."""
  return [*_of_slots(saved, here), *_of_weights(saved, here)]


def check(
  saved: DenseManifest, here: DenseManifest, may_differ: Sequence[str] = ()
) -> list[Difference]:
  """The differences, all of which `may_differ` allows.

  Args:
    saved, here: as for `differences`.
    may_differ: names of slots, and of weights or of layers above them; "*" stands for any text.

  Raises:
    CheckpointError: in half a sentence, what differs and must not.
  """
  found = differences(saved, here)
  wrong = [one for one in found if not is_named(one.names, may_differ)]
  if not wrong:
    return found
  text = "; ".join(one.text for one in wrong)
  names = [name for one in found for name in one.names]
  if all(one.names for one in wrong):
    text += f" (may_differ={tuple(names)!r} takes the weights that fit, and begins with new ones)"
  raise CheckpointError(f"the model is not as it was: {text}")


def is_named(names: Iterable[str], may_differ: Sequence[str]) -> bool:
  """Whether all of `names`, and at least one, are among `may_differ` or below them."""
  is_one = lambda name: any(
    fnmatch.fnmatchcase(name, one) or name.startswith(f"{one}/") for one in may_differ
  )
  names = tuple(names)
  return bool(names) and all(map(is_one, names))


def _of_slots(saved: DenseManifest, here: DenseManifest) -> Iterator[Difference]:
  pairs = list(_pairs(saved.embeddings, here.embeddings))
  same_width = _width(saved.embeddings) == _width(here.embeddings)
  for was, now in pairs:
    layer = (now or was or _NONE).layer
    before, after = (was or _NONE).pooled, (now or _NONE).pooled
    all_before = [*before, *(was or _NONE).sequences]
    all_after = [*after, *(now or _NONE).sequences]
    if before == after and sorted(all_before) == sorted(all_after):
      continue
    new = [slot for slot in all_after if slot not in all_before]
    gone = [slot for slot in all_before if slot not in all_after]
    text = (
      f"layer '{layer}' had the slots {', '.join(all_before) or '(none)'} and now has "
      f"{', '.join(all_after) or '(none)'}"
    )
    if before != after and (same_width or len(before) == len(after)):
      # Weights keep their shapes, and would belong to other slots.
      yield Difference(
        (),
        f"{text}: dense weights belong to slots by their place, so give the slots in the order "
        "that they had, new ones in the place of none of them",
        of_slots=True,
      )
    else:
      moved = [slot for slot in before if slot in after and _moved(slot, before, after)]
      yield Difference((*new, *gone, *moved), text, of_slots=True)


def _of_weights(saved: DenseManifest, here: DenseManifest) -> Iterator[Difference]:
  there, now = _shapes(saved), _shapes(here)
  for name, shape in now.items():
    if name not in there:
      yield Difference((name,), f"weight '{name}' {shape} is new")
    elif there[name] != shape:
      yield Difference((name,), f"weight '{name}' was {there[name]} and is {shape}")
  for name in there:
    if name not in now:
      yield Difference((name,), f"weight '{name}' {there[name]} is no longer there")


def _shapes(manifest: DenseManifest) -> Mapping[str, list[int]]:
  return {weight.name: weight.shape for weight in manifest.weights}


_NONE = EmbeddingManifest(layer="", table="", pooled=[], sequences=[], mf_dim=0)
_Pair = tuple["EmbeddingManifest | None", "EmbeddingManifest | None"]


def _pairs(
  saved: Sequence[EmbeddingManifest], here: Sequence[EmbeddingManifest]
) -> Iterator[_Pair]:
  """Each layer as it was and as it is; None where there is none."""
  there, now = ({one.layer: one for one in layers} for layers in (saved, here))
  if there.keys() != now.keys() and len(saved) == len(here):
    # The numbers of a functional model's layers shift where others come between.
    yield from zip(saved, here)
    return
  for layer in dict.fromkeys([*there, *now]):
    yield there.get(layer), now.get(layer)


def _width(layers: Iterable[EmbeddingManifest]) -> tuple[int, int]:
  """How many columns all layers' pooled mf vectors have together, and how many their lr weights."""
  counts = [(len(layer.pooled) * layer.mf_dim, len(layer.pooled)) for layer in layers]
  return sum(mf for mf, _ in counts), sum(lr for _, lr in counts)


def _moved(slot: str, before: Sequence[str], after: Sequence[str]) -> bool:
  """Whether a slot of both lists has other common slots before it than it had."""
  return {one for one in before[: before.index(slot)] if one in after} != {
    one for one in after[: after.index(slot)] if one in before
  }


def fitted(saved: np.ndarray, new: np.ndarray, by_place: bool) -> tuple[np.ndarray, str]:
  """A weight of another shape: (its value, what was taken).

  Args:
    saved: its value in the checkpoint.
    new: its value in the model.
    by_place: whether what is at the same place means the same: no slots differ.
  """
  if not by_place or saved.ndim != new.ndim:
    return new, "begins anew"
  block = tuple(slice(min(a, b)) for a, b in zip(saved.shape, new.shape))
  value = new.copy()
  value[block] = saved[block]
  return value, f"takes {list(saved[block].shape)} of {list(saved.shape)}, the rest is new"
