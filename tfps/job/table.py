"""The feasign table that a config describes."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from tfps.table import optimizers
from tfps.table.accessor import CtrAccessor
from tfps.table.feasign_table import FeasignTable
from tfps.table.policy import SlotPolicy

_OPTIMIZERS = ("SGD", "Adagrad", "StdAdagrad", "Adam", "FTRL")
# Fields of a slot's policy: the argument of tfps.SlotPolicy that each makes.
_POLICY_FIELDS = {
  "mf_dim": "mf_dim",
  "accessor": "accessor",
  "mf_optimizer": "optimizer",
  "lr_optimizer": "lr_optimizer",
}


def make_table(config: Any) -> FeasignTable:
  """Makes the `tfps.FeasignTable` of a run.

  Args:
    config: ConfigDict with the fields of `tfps.training.config.default_config`.

  Raises:
    ValueError: one sentence that names the field at fault.
  """
  return FeasignTable(
    **config.table,
    accessor=_accessor("accessor", config.accessor),
    optimizer=_sparse_optimizer("mf_optimizer", config.mf_optimizer),
    lr_optimizer=_sparse_optimizer("lr_optimizer", config.lr_optimizer),
    slot_policies={slot: _slot_policy(config, slot) for slot in config.slot_policies},
  )


def _slot_policy(config: Any, slot: str) -> SlotPolicy:
  where = f"slot_policies.{slot}"
  check_names("slot_policies", [slot], list(config.slots), "config.slots has")
  given = _group(where, config.slot_policies[slot])
  check_names(where, given, list(_POLICY_FIELDS), "a slot may have")
  settings = {_POLICY_FIELDS[field]: value for field, value in given.items()}
  if "accessor" in given:  # What it does not name is the table's.
    own = _group(f"{where}.accessor", given["accessor"])
    settings["accessor"] = _accessor(f"{where}.accessor", {**config.accessor, **own})
  for field in ("mf_optimizer", "lr_optimizer"):
    if field in given:
      own = _group(f"{where}.{field}", given[field])
      # Without a name it is the table's, with these settings.
      optimizer = own if "name" in own else {**config[field], **own}
      settings[_POLICY_FIELDS[field]] = _sparse_optimizer(f"{where}.{field}", optimizer)
  try:
    return SlotPolicy(**settings)
  except ValueError as error:
    raise ValueError(f"config.{where}: {error}") from None


def _accessor(field: str, settings: Mapping[str, Any]) -> CtrAccessor:
  names = [entry.name for entry in dataclasses.fields(CtrAccessor)]
  check_names(field, settings, names, "an accessor has")
  try:
    return CtrAccessor(**settings)
  except ValueError as error:
    raise ValueError(f"config.{field}: {error}") from None


def _sparse_optimizer(field: str, settings: Mapping[str, Any]) -> optimizers.SparseOptimizer:
  settings = dict(settings)
  name = settings.pop("name")
  if name not in _OPTIMIZERS:
    raise ValueError(
      f"config.{field}.name must be SGD, Adagrad, StdAdagrad, Adam or FTRL, not '{name}'."
    )
  try:
    return getattr(optimizers, name)(**settings)
  except TypeError as error:
    raise ValueError(f"config.{field}: {name} does not take these settings: {error}.") from None


def _group(field: str, value: Any) -> dict[str, Any]:
  """A field that holds fields, as a dict."""
  if not isinstance(value, config_dict.ConfigDict):
    raise ValueError(f"config.{field} must be a group of fields, not {value!r}.")
  return dict(value)


def check_names(field: str, names: Iterable[str], known: Sequence[str], who: str) -> None:
  """Raises ValueError for the first of `names` that is not one of `known`."""
  for name in names:
    if name not in known:
      near = difflib.get_close_matches(name, known, 1)
      hint = f"; did you mean '{near[0]}'?" if near else "."
      raise ValueError(f"config.{field} names '{name}', but {who} {', '.join(known)}{hint}")
