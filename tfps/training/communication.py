"""Communication: who waits for whom, and what crosses the wire."""

from __future__ import annotations

import dataclasses

MODES = ("async", "bounded", "sync")
WIRE_DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Communication:
  """How workers and parameter servers agree while `tfps.Model.fit` trains on a source.

  Only the chief waits, by not scheduling a ticket yet: no worker waits for another. An option that
  the chosen mode does not use changes nothing. See docs/consistency.md.

  Args:
    consistency: "async": every worker pulls, computes and pushes without waiting for another.
      "bounded": ticket n runs only when all tickets before n - max_delay are finished. "sync": some
      tickets accumulate their gradients, shows and clicks, the chief waits for all of them, and
      they are applied as one step.
    max_delay: of bounded: the number of tickets that may run ahead of the oldest unfinished one; 0:
      one ticket at a time, in order.
    tickets_per_step: of sync: the number of tickets merged into one step; 0: one for each worker.
    wire_dtype: of pulled rows and pushed gradients between worker and parameter server: "float32",
      "bfloat16" or "float16". Gradients are rounded stochastically, and rows are float32 in the
      table whatever crosses the wire.
    row_references: a pull also returns the place of each row, so that the push finds it without
      another look-up.
    dense_sync_every: the number of batches of a ticket after which a worker merges its dense
      gradients into the dense weights and reads them again; 0: once a ticket.
    dense_local_steps: between merges a worker steps its own copy of the dense weights, batch by
      batch, and merges the difference; otherwise it merges the gradients, applied in one step.
    prefetch: the next batch's pull runs while this batch computes.
    push_window: of async: a worker sends its pushes with every Nth pull; 1: with each.

  Raises:
    ValueError: a field has no such value; the sentence begins with the field's name.

  Examples:
    >>> communication = tfps.Communication(consistency="bounded", max_delay=4)
    >>> history = model.fit(source, communication=communication, verbose=0)
  """

  consistency: str = "async"
  max_delay: int = 0
  tickets_per_step: int = 0
  wire_dtype: str = "float32"
  row_references: bool = True
  dense_sync_every: int = 0
  dense_local_steps: bool = True
  prefetch: bool = True
  push_window: int = 1

  def __post_init__(self) -> None:
    for name, choices in (("consistency", MODES), ("wire_dtype", WIRE_DTYPES)):
      value = getattr(self, name)
      if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
    for name in ("max_delay", "tickets_per_step", "dense_sync_every", "push_window"):
      value = getattr(self, name)
      least = int(name == "push_window")
      if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, {least} or more.")
    for name in ("row_references", "dense_local_steps", "prefetch"):
      value = getattr(self, name)
      if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be True or False.")
