"""What an embedding layer reads in each of its slots: whose rows, pooled or not, counted or not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from tfps.layers.pooling import COMBINERS
from tfps.table.feasign_table import FeasignTable

Combiner: TypeAlias = "str | None"  # One of COMBINERS, or None: no pooling.


class SlotGroup(NamedTuple):
  """Slots of a layer whose gradients are pushed as those of one reader.

  Attributes:
    reader: the slot, if it reads the rows of another one; None for all slots that read their own.
    counts: whether occurrences add show and click.
    pooled: its pooled slots, in the layer's order.
    unpooled: its other slots, likewise.
  """

  reader: str | None
  counts: bool
  pooled: tuple[str, ...]
  unpooled: tuple[str, ...]

  @property
  def slots(self) -> tuple[str, ...]:
    """All its slots, the pooled ones first."""
    return self.pooled + self.unpooled


class LayerSlots:
  """The slots of an embedding layer.

  Args:
    slots, combiner, share, sequences, counting, lr_slots: as of `tfps.Embedding`.

  Attributes:
    names: the slots, as given.
    pooled: the pooled slots, in that order.
    unpooled: the other slots, likewise.
    combiners: {slot: combiner} of the pooled slots.
    in_logit: the slots whose lr weights are in the lr logit.
    groups: the `SlotGroup`s, in the order in which bags have them.

  Raises:
    ValueError: if one of the arguments is not usable.
  """

  def __init__(
    self,
    slots: Sequence[str],
    combiner: Combiner | Mapping[str, Combiner],
    share: Mapping[str, str],
    sequences: Collection[str],
    counting: Collection[str],
    lr_slots: Collection[str],
  ) -> None:
    self.names = _check_slots(slots)
    combiners = _check_combiners(self.names, combiner, _check_names("sequences", sequences))
    self._owners = _check_share(self.names, share)
    for name, named in (("sequences", sequences), ("counting", counting), ("lr_slots", lr_slots)):
      for slot in _check_names(name, named):
        if slot not in self.names:
          raise ValueError(f"{name} names slot '{slot}', which is not one of {list(self.names)}.")
    self.pooled = tuple(slot for slot in self.names if combiners[slot] is not None)
    self.unpooled = tuple(slot for slot in self.names if combiners[slot] is None)
    self.combiners = {slot: str(combiners[slot]) for slot in self.pooled}
    for slot in counting:
      if slot not in self._owners:
        raise ValueError(
          f"counting names slot '{slot}', which reads its own rows and counts anyway: name slots "
          "of share."
        )
    own = frozenset(slot for slot in self.pooled if slot not in self._owners)
    self.in_logit = own | frozenset(lr_slots)
    self.groups = [
      SlotGroup(
        reader,
        reader is None or reader in counting,
        tuple(slot for slot in self.pooled if self._reader_of(slot) == reader),
        tuple(slot for slot in self.unpooled if self._reader_of(slot) == reader),
      )
      for reader in dict.fromkeys(sorted(map(self._reader_of, self.names), key=_own_first))
    ]

  def owner_of(self, slot: str) -> str:
    """The slot whose rows `slot` reads."""
    return self._owners.get(slot, slot)

  @property
  def in_bags(self) -> tuple[str, ...]:
    """All slots in the order in which bags have them, group after group."""
    return tuple(slot for group in self.groups for slot in group.slots)

  def check_policies(self, table: FeasignTable) -> None:
    """Raises ValueError if a slot that reads the rows of another one has a policy of its own."""
    for slot, owner in self._owners.items():
      if slot in table.slot_policies:
        raise ValueError(
          f"slot '{slot}' reads the rows of slot '{owner}' and has a SlotPolicy in table "
          f"'{table.name}', which no row would follow: take it out of slot_policies; rows have the "
          f"policy of '{owner}'."
        )

  def _reader_of(self, slot: str) -> str | None:
    return slot if slot in self._owners else None


def _own_first(reader: str | None) -> bool:
  return reader is not None


def _check_slots(slots: Sequence[str]) -> tuple[str, ...]:
  if isinstance(slots, str) or not slots:
    raise ValueError(f"slots must be a list of one slot name or more, not {slots!r}.")
  slots = tuple(slots)
  for slot in slots:
    if slots.count(slot) > 1:
      raise ValueError(f"slot '{slot}' is in slots twice: name each slot once.")
  return slots


def _check_names(argument: str, names: Collection[str]) -> Collection[str]:
  if isinstance(names, str):
    raise ValueError(f"{argument} must be a list of slot names, not {names!r}.")
  return names


def _check_combiners(
  slots: Sequence[str], combiner: Combiner | Mapping[str, Combiner], sequences: Collection[str]
) -> dict[str, Combiner]:
  """{slot: combiner} for every slot."""
  named: dict[str, Combiner]
  named = dict(combiner) if isinstance(combiner, Mapping) else dict.fromkeys(slots, combiner)
  for slot, value in named.items():
    if slot not in slots:
      raise ValueError(f"combiner names slot '{slot}', which is not one of {list(slots)}.")
    if value is not None and value not in COMBINERS:
      raise ValueError(
        f"the combiner of slot '{slot}' must be one of {', '.join(COMBINERS)} or None, "
        f"not {value!r}."
      )
    if isinstance(combiner, Mapping) and value is not None and slot in sequences:
      raise ValueError(
        f"slot '{slot}' is in sequences, which are not pooled, and has the combiner '{value}': "
        "leave out one of the two."
      )
  return {slot: None if slot in sequences else named.get(slot, "sum") for slot in slots}


def _check_share(slots: Sequence[str], share: Mapping[str, str]) -> dict[str, str]:
  if not isinstance(share, Mapping):
    raise ValueError(f"share must be a dict {{slot: the slot whose rows it reads}}, not {share!r}.")
  for slot, owner in share.items():
    if slot not in slots:
      raise ValueError(f"share names slot '{slot}', which is not one of {list(slots)}.")
    if not isinstance(owner, str) or not owner:
      raise ValueError(f"share['{slot}'] must be the name of a slot, not {owner!r}.")
    if owner == slot:
      raise ValueError(f"slot '{slot}' shares its own rows: leave it out of share.")
    if owner in share:
      raise ValueError(
        f"slot '{slot}' shares the rows of '{owner}', which shares those of '{share[owner]}': "
        f"share the rows of '{share[owner]}' in both."
      )
  return dict(share)
