"""Manifests with a right checksum and wrong content are refused; nothing outside is touched."""

import json
import pathlib
import zlib

import pytest

from tests.checkpoints import KEYS, make_table, push
from tfps.checkpoint import CheckpointError, CheckpointManager, manifest, reader
from tfps.errors import ExportError
from tfps.export import artifact

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
    manifest.chain(path)
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
      manifest.read(path)
    pathlib.Path(path, "manifest.json").write_bytes(before)


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_path_leads_out_of_an_export(tmp_path, name):
  writing = artifact.begin(str(tmp_path), 1)
  pathlib.Path(writing, "a").write_text("content")
  content = {"kind": "base", "version": 1, "lineage": "x", "tables": {}}
  artifact.finish(writing, str(tmp_path / "1"), content, ["/device:CPU:0"])
  assert artifact.read(str(tmp_path / "1"))["kind"] == "base"
  rewrite(tmp_path / "1", lambda content: content["files"].update({name: content["files"]["a"]}))
  with pytest.raises(ExportError, match="which is no path inside its folder; export again"):
    artifact.read(str(tmp_path / "1"))
