"""What `tfps train` does before the first ticket of a run that begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tfps.checkpoint.folder import CHECKPOINTS
from tfps.errors import ConfigError
from tfps.migration.from_checkpoint import warm_start

if TYPE_CHECKING:
  from tfps.table.feasign_table import FeasignTable


def fill(
  config: Any,
  table: FeasignTable,
  user_function: Callable[[Any, FeasignTable], Any] | None = None,
) -> None:
  """Fills the table of a run that begins; a run that goes on from a checkpoint is left as it is.

  Args:
    config: ConfigDict with the fields of `tfps.training.config.default_config`.
    table: the run's `tfps.FeasignTable`, once the model is made.
    user_function: `warm_start(config, table)` of the config's module, called afterwards.
  """
  if config.checkpoint.folder and CHECKPOINTS.numbers(config.checkpoint.folder):
    return
  settings = config.warm_start
  if settings.checkpoint:
    try:
      filled = warm_start(
        table, settings.checkpoint, settings.table or None, _slots(settings.slots) or None
      )
    except ValueError as error:
      raise ConfigError(f"config.warm_start: {error}") from error
    told = "; ".join(f"{slot}: {imported}" for slot, imported in filled.items())
    print(f"Warm start from {settings.checkpoint}: {told}.", flush=True)
  if user_function is not None:
    user_function(config, table)


def _slots(entries: Iterable[str]) -> dict[str, str]:
  """{slot: slot there} of entries "slot" and "slot=slot there"."""
  pairs = (entry.partition("=") for entry in entries)
  return {slot: there or slot for slot, _, there in pairs}
