"""Manifests with a right checksum and wrong content are refused; nothing outside is touched."""

import json
import pathlib
import re
import zlib

import pytest

from tests.checkpoints import KEYS, make_table, push
from tfps.checkpoint import CheckpointError, CheckpointManager, chain, reader, rebalance
from tfps.checkpoint.folder import CHECKPOINTS
from tfps.errors import ExportError
from tfps.export import artifact
from tfps.export.artifact import ARTIFACTS
from tfps.export.manifests import BaseManifest, DeltaManifest

OUTSIDE = ["../secret", "/etc/passwd", "a/../../b", "..", ".", "", "a//b", "a\\..\\b", "a\0b"]


def rewrite(path, change):
  """Changes a manifest as one who knows how its checksum is made."""
  file = pathlib.Path(path, "manifest.json")
  content = json.loads(file.read_text())
  del content["checksum"]
  change(content)
  checksum = zlib.crc32(json.dumps(content, sort_keys=True).encode())
  file.write_text(json.dumps({**content, "checksum": checksum}))


@pytest.fixture(name="path")
def _path(tmp_path):
  table = make_table(2)
  push(table, KEYS)
  return CheckpointManager(tmp_path / "checkpoints", None, [table]).save({"at": 1})


CHANGES = {
  "no files": lambda content: content.pop("files"),
  "files are a list": lambda content: content.update(files=[]),
  "a size below 0": lambda content: next(iter(content["files"].values())).update(bytes=-1),
  "a size of text": lambda content: next(iter(content["files"].values())).update(bytes="8"),
  "tables are none": lambda content: content.update(tables=None),
  "no calendar": lambda content: content.pop("calendar"),
  "no increment_of": lambda content: content.pop("increment_of"),
  "increment_of a path": lambda content: content.update(increment_of="../checkpoint-1"),
  "increment_of a number": lambda content: content.update(increment_of=1),
  "no format": lambda content: content.pop("format"),
  "a bundle that is no file": lambda content: content["tables"]["ctr"].update(bundles=["a", "b"]),
  "a shard on no bundle": lambda content: content["tables"]["ctr"]["saved_on"].append(0),
  "a shard on bundle 9": lambda content: content["tables"]["ctr"]["saved_on"].__setitem__(0, 9),
  "a slot of text": lambda content: content["tables"]["ctr"].update(slots={"a": "b"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_checkpoint_must_say_what_is_read_of_it(path, name):
  rewrite(path, CHANGES[name])
  with pytest.raises(CheckpointError, match="manifest.json"):
    chain.read(path)
  with pytest.raises(CheckpointError):
    reader.open_checkpoint(path)


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_path_leads_out_of_a_checkpoint(path, name):
  for change in (
    lambda content: content["files"].update({name: {"bytes": 0, "crc32c": 0}}),
    lambda content: content["tables"]["ctr"]["bundles"].append(name),
    lambda content: content["tables"].update({name: content["tables"]["ctr"]}),
  ):
    before = pathlib.Path(path, "manifest.json").read_bytes()
    rewrite(path, change)
    with pytest.raises(CheckpointError):
      CHECKPOINTS.read(path)
    pathlib.Path(path, "manifest.json").write_bytes(before)


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_path_leads_out_of_an_export(tmp_path, name):
  def write(path):
    pathlib.Path(path, "a").write_text("content")
    return BaseManifest(version=1, lineage="x", day=None, step=None)

  ARTIFACTS.publish(str(tmp_path), 1, write, ["/device:CPU:0"])
  assert ARTIFACTS.read(str(tmp_path / "1")).kind == "base"
  rewrite(tmp_path / "1", lambda content: content["files"].update({name: content["files"]["a"]}))
  with pytest.raises(ExportError, match="which is no path inside its folder; export again"):
    ARTIFACTS.read(str(tmp_path / "1"))


def test_further_fields_of_a_newer_version_are_kept(path):
  """Fields that this version does not know are read, and written again with what changes."""

  def add(content):
    content["later"] = {"a": 1}
    content["tables"]["ctr"]["later"] = [2]
    content["tables"]["ctr"]["load"]["later"] = [0] * len(content["tables"]["ctr"]["saved_on"])

  rewrite(path, add)
  checkpoint = reader.open_checkpoint(path)
  before = json.loads(pathlib.Path(path, "manifest.json").read_text())
  rebalance.apply(checkpoint, {"ctr": rebalance.propose(checkpoint.tables["ctr"].saved, 3)})
  after = json.loads(pathlib.Path(path, "manifest.json").read_text())
  for content in (before, after):
    del content["checksum"]
    for field in ("assignment", "num_servers"):
      del content["tables"]["ctr"][field]
  assert before == after
  assert CHECKPOINTS.read(path).tables["ctr"].num_servers == 3


def test_checkpoints_of_early_versions_have_neither_clock_nor_load(path):
  def remove(content):
    del content["tables"]["ctr"]["clock"], content["tables"]["ctr"]["load"]

  rewrite(path, remove)
  saved = reader.open_checkpoint(path).tables["ctr"].saved
  assert saved.clock == [] and not any(saved.load["bytes"])
  restored = make_table(2)
  assert CheckpointManager(pathlib.Path(path).parent, None, [restored]).restore() == {"at": 1}
  assert restored.statistics()["rows"] == len(KEYS)


@pytest.mark.parametrize(
  "change, sentence",
  [
    (lambda file: file.unlink(), "manifest.json is missing"),
    (lambda file: file.write_text("{"), "manifest.json is truncated or was changed"),
    (lambda file: file.write_text("[]"), "manifest.json is truncated or was changed"),
    (
      lambda file: file.write_text(file.read_text().replace('"at": 1', '"at": 2')),
      "manifest.json was changed: its checksum does not hold",
    ),
    (
      lambda file: rewrite(file.parent, lambda content: content.update(format=3)),
      "manifest.json has format 3, and this version of tfps reads format 2",
    ),
    (
      lambda file: rewrite(file.parent, lambda content: content.update(calendar=1)),
      "manifest.json is changed: its field 'calendar' is missing or of the wrong kind",
    ),
    (
      lambda file: rewrite(file.parent, lambda content: content.update(increment_of="a")),
      "manifest.json names 'a', which is no checkpoint, as the one before it",
    ),
  ],
)
def test_what_is_wrong_with_a_checkpoints_manifest(path, change, sentence):
  change(pathlib.Path(path, "manifest.json"))
  with pytest.raises(CheckpointError, match=f"^{re.escape(sentence)}$"):
    chain.read(path)


# As tfps wrote them before manifests were typed: a base that was folded, and a delta of a stream.
BASE = {
  "format": 1, "kind": "base", "version": 2, "lineage": "x", "day": 2, "step": 30,
  "pause_seconds": 0.1, "weights": {"layout": "0123", "size": 5},
  "tables": {"ctr": {"rows": 3, "row_width": 4, "buckets": 8, "predicate": "show >= 1",
                     "predicate_of_slots": {}, "slots": {"user": 1}}},
  "base": 1, "sequence": 3, "files": {"a": {"bytes": 1, "crc32c": 2}},
}  # fmt: skip
DELTA = {
  "format": 1, "events": {"samples": 2, "oldest": 1.0, "newest": 3.0, "mean": 2.0},
  "lineage": "x", "base": 1, "sequence": 4, "captured_at": 1.5, "day": None, "step": None,
  "weights": {"layout": "0123", "size": 5}, "pause_seconds": 0.1, "kind": "delta",
  "tables": {"ctr": {"rows": 3, "removed": 2, "row_width": 4}},
  "files": {"a": {"bytes": 1, "crc32c": 2}},
}  # fmt: skip


def write_artifact(folder, content):
  folder.mkdir()
  (folder / "manifest.json").write_text(json.dumps({**content, "checksum": 0}, indent=1))
  rewrite(folder, lambda content: None)
  return str(folder)


@pytest.mark.parametrize("content", [BASE, DELTA], ids=["base", "delta"])
def test_what_a_manifest_of_an_export_says_is_what_was_read(tmp_path, content):
  path = write_artifact(tmp_path / "1", {**content, "later": 1})
  manifest = ARTIFACTS.read(path)
  assert {"format": 1, **manifest.to_json()} == {**content, "later": 1}
  ARTIFACTS.replace(path, manifest)
  assert ARTIFACTS.read(path) == manifest


def test_what_the_manifests_of_exports_say(tmp_path):
  base = artifact.read_as(write_artifact(tmp_path / "1", BASE), BaseManifest)
  assert (base.version, base.first_base, base.last_sequence) == (2, 1, 3)
  assert (base.tables["ctr"].rows, base.files["a"].crc32c, base.weights.size) == (3, 2, 5)
  delta = artifact.read_as(write_artifact(tmp_path / "2", DELTA), DeltaManifest)
  assert (delta.base, delta.sequence, delta.tables["ctr"].removed) == (1, 4, 2)
  assert delta.events["mean"] == 2.0
  first = write_artifact(tmp_path / "3", {**BASE, "base": 0})
  assert ARTIFACTS.read(first).first_base == 0
  for path, kind in ((tmp_path / "1", DeltaManifest), (tmp_path / "2", BaseManifest)):
    with pytest.raises(ExportError, match="and a (base|delta) is wanted[.]$"):
      artifact.read_as(str(path), kind)


@pytest.mark.parametrize(
  "change, sentence",
  [
    (
      lambda file: file.unlink(),
      "{path} has no manifest.json: it is no artifact of tfps, or not a whole one.",
    ),
    (
      lambda file: file.write_text("{"),
      "{path}/manifest.json is truncated or was changed: export again.",
    ),
    (
      lambda file: file.write_text(file.read_text().replace('"step": 30', '"step": 31')),
      "{path}/manifest.json is truncated or was changed: export again.",
    ),
    (
      lambda file: rewrite(file.parent, lambda content: content.update(format=2)),
      "{path} has format 2, and this version of tfps reads format 1.",
    ),
    (
      lambda file: rewrite(file.parent, lambda content: content.pop("lineage")),
      "{path}/manifest.json was changed: its field 'lineage' is missing or of the wrong kind; "
      "export again.",
    ),
    (
      lambda file: rewrite(file.parent, lambda content: content.update(version=-1)),
      "{path}/manifest.json was changed: its field 'version' is -1; export again.",
    ),
  ],
)
def test_what_is_wrong_with_an_exports_manifest(tmp_path, change, sentence):
  path = write_artifact(tmp_path / "1", BASE)
  change(tmp_path / "1" / "manifest.json")
  with pytest.raises(ExportError, match=f"^{re.escape(sentence.format(path=path))}$"):
    ARTIFACTS.read(path)


def test_a_file_of_an_export_that_is_missing_or_changed_is_named(tmp_path):
  def write(path):
    pathlib.Path(path, "a").write_text("content")
    return BaseManifest(version=1, lineage="x", day=None, step=None)

  path = ARTIFACTS.publish(str(tmp_path), 1, write, ["/device:CPU:0"])
  file = tmp_path / "1" / "a"
  for content in ("Content", "conten"):
    file.write_text(content)
    with pytest.raises(ExportError, match=f"^{path}/a is truncated or was changed: its checksum"):
      artifact.check_files(path, ARTIFACTS.read(path))
  file.unlink()
  with pytest.raises(ExportError, match=f"^{path}/a is missing: export again[.]$"):
    artifact.check_files(path, ARTIFACTS.read(path))
