"""What `tfps replay` prints for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tfps.cli import output
from tfps.replay import report as report_lib

if TYPE_CHECKING:
  from tfps.replay.features import Comparison
  from tfps.replay.predictions import Difference
  from tfps.replay.report import BaseReport, Report

_MOST_VALUES = 8


def text(report: Report) -> str:
  """The whole report, in blocks."""
  blocks = ["\n".join(_head(report))]
  for base in report.bases:
    blocks += ["\n".join(_features(what, found)) for what, found in base.judged()]
    blocks += ["\n".join(lines) for lines in (_unpaired(base), _predictions(base, report)) if lines]
    trainer = base.features.predictions.differences(report.trainer_tolerance or report.tolerance)
    if trainer:
      title = f"predictions of the trainer's model and of base {base.version} {_state(base)}"
      blocks.append("\n".join([title, *_differences(trainer, "trainer", "served")]))
  for other in report.others:
    whose = (
      "that the log names no version of" if other.version is None else f"of version {other.version}"
    )
    title = f"predictions {whose}, beside those of base {other.base}; no part of the verdict"
    found = other.pairs.differences(report.tolerance)
    blocks.append("\n".join([title, *_differences(found, "logged", "replayed")]))
  blocks.append(_verdict(report))
  return "\n\n".join(blocks)


def _head(report: Report) -> Iterator[str]:
  files = report.files[0] if len(report.files) == 1 else f"{len(report.files):,} files"
  yield f"log         {files}: {report.requests:,} requests, {report.examples:,} examples"
  if report.every > 1:
    yield f"            every {report.every:,}th record is replayed: {report.replayed:,} examples"
  there = {base.version for base in report.bases}
  for version, count in sorted(report.versions.items(), key=lambda item: (item[0] is None, item)):
    known = "" if version in there else ": it is not replayed as such"
    named = "no version named" if version is None else f"version {version}"
    yield f"            {named}, {count:,} examples{known}"
  for base in report.bases:
    yield f"artifact    {base.path} {_state(base)}"
  if report.checkpoint:
    yield f"checkpoint  {report.checkpoint}"
  if report.samples_read is not None:
    yield f"samples     {report.samples_read:,} read"
  for reason, count in report.unusable.counts.most_common():
    yield f"left out    {count:,} {'record' if count == 1 else 'records'}: {reason}"
    yield from (f"              {place}" for place in report.unusable.places[reason][:3])


def _state(base: BaseReport) -> str:
  if base.state == base.first_state:
    return "without deltas"
  return f"with delta {base.first_state + 1} to {base.state}"


def _features(what: str, found: Comparison) -> Iterator[str]:
  yield (
    f"{what}: {found.examples:,} examples, {output.share(found.differ, found.examples)} differ, "
    f"{found.changed:,} predictions change"
  )
  rows = [["slot", "differ", "kinds", "change of prediction", "explains"]]
  slots = sorted(found.slots.values(), key=lambda slot: (-slot.differ, slot.name))
  for slot in slots:
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in slot.kinds.most_common())
    change = ""
    if slot.effect_mean is not None:
      change = f"mean {slot.effect_mean:.3g}, max {slot.effect_max:.3g}"
    explains = f"{slot.explained:,} of {found.changed:,}" if slot.differ and found.changed else ""
    rows.append([slot.name, output.share(slot.differ, slot.compared), kinds, change, explains])
  yield from (f"  {line}" for line in output.columns(rows, right=(1,)))
  for side, names in found.only.items():
    if names:
      yield f"  only {side} has {', '.join(names)}"
  for slot in slots:
    for one in slot.examples:
      yield f"  {slot.name}: {one.id} at {one.where}: {one.kind}"
      sides = [("serving", one.serving), ("training", one.training)]
      for i, (side, values) in enumerate(sides):
        raw = f"  of {_values(one.raw[i])}" if one.raw else ""
        yield f"    {side:<8}  {_values(values)}{raw}"


def _values(values: list[Any]) -> str:
  more = f", ... ({len(values)} in all)" if len(values) > _MOST_VALUES else ""
  return f"[{', '.join(map(repr, values[:_MOST_VALUES]))}{more}]"


def _unpaired(base: BaseReport) -> list[str]:
  found = base.features
  counts = [
    (found.without_id, "examples of the log have no id (--id names the fields)"),
    (found.without_sample, "examples of the log have no sample with their id"),
    (found.bad_samples, "samples have features of other types than the model takes"),
    (found.not_made, "examples have no features: export the model again with this tfps"),
    (found.refused, f"examples are refused by the artifact: {found.refusal}"),
  ]
  return [f"{count:,} {what}" for count, what in counts if count]


def _predictions(base: BaseReport, report: Report) -> list[str]:
  logged = base.logged
  if not len(logged):
    return []
  differ = logged.differ(report.tolerance)
  lines = [
    f"predictions that the log has of base {base.version}: {len(logged):,} examples, "
    f"{output.share(differ, len(logged))} differ from every state of it"
  ]
  lines += _differences(logged.differences(report.tolerance), "logged", "replayed")
  states = [
    f"{count:,} of " + ("the base" if state == base.first_state else f"delta {state}")
    for state, count in logged.states(report.tolerance).items()
  ]
  if states:
    lines.append(f"  served by: {', '.join(states)}")
  for one in logged.worst(report.tolerance):
    lines.append(
      f"  {one['id']} at {one['where']}: logged {_outputs(one['logged'])}, "
      f"replayed {_outputs(one['replayed'])}"
    )
  return lines


def _outputs(values: Mapping[str, list[float]]) -> str:
  return ", ".join(f"{value:.7g}" for row in values.values() for value in row)


def _differences(found: Mapping[str, Difference], first: str, second: str) -> list[str]:
  quantiles = list(next(iter(found.values())).quantiles) if found else []
  rows = [
    ["output", "number", "differ", "mean", *(f"{q:.4g}" for q in quantiles), "max",
     f"mean {first}", f"mean {second}", "ratio"]
  ]  # fmt: skip
  for name, one in found.items():
    ratio = "" if one.calibration is None else f"{one.calibration:.6f}"
    rows.append(
      [name, f"{one.number:,}", f"{one.differ:,}", f"{one.mean:.3g}",
       *(f"{value:.3g}" for value in one.quantiles.values()), f"{one.max:.3g}",
       f"{one.mean_of_first:.6f}", f"{one.mean_of_second:.6f}", ratio]
    )  # fmt: skip
  return [f"  {line}" for line in output.columns(rows, right=range(1, len(rows[0])))]


def _verdict(report: Report) -> str:
  if report.verdict == report_lib.NOTHING:
    hint = (
      ": the log needs predictions of a version that is in the export folder, or give --version; "
      "--samples and --config compare features"
    )
    hint = "" if any(report.wanted) else hint
    return f"Nothing was compared of {' and '.join(report.missing)}{hint}."
  if report.verdict == report_lib.LEVEL:
    compared = ", ".join(f"{one.compared:,} {one.what}" for one in report.judged())
    return f"Level: {compared}."
  differing = [
    f"{one.what} ({one.further or f'{one.differ:,} of {one.compared:,}'})"
    for one in report.differing
  ]
  return f"Differs: {'; '.join(differing)}."
