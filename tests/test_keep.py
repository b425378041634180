"""Which bases and deltas an exporter removes, and which stay since somebody has them."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tfps
from tests import exports
from tests.commands import run
from tfps.export import fold, in_use
from tfps.export.artifact import ARTIFACTS


@pytest.fixture(scope="module", name="exporter")
def _exporter(tmp_path_factory):
  folder = tmp_path_factory.mktemp("kept")
  model, _ = exports.make_small_model()
  return tfps.export.Exporter(model, folder, exports.SMALL_RAW, keep=2)


def there(folder, kind):
  return (
    ARTIFACTS.numbers(f"{folder}/base")
    if kind == "base"
    else sorted(int(path.name) for path in (folder / "delta").glob("*"))
  )


def train(exporter, seed):
  (target,) = exporter._targets
  exports.train_small_model(target.model, seed=seed)


def test_what_a_server_has_or_a_person_pinned_stays_with_its_deltas(exporter, tmp_path, capsys):
  folder = tmp_path.__class__(exporter._folder)
  for seed in range(3):
    exporter.base()
    train(exporter, seed)
    exporter.delta()
  assert there(folder, "base") == there(folder, "delta") == [2, 3]
  # Version 4 is base 3 with its delta; it and the deltas of base 3 are what a server has.
  fold.fold(f"{folder}/base/3", [f"{folder}/delta/3/1"])
  in_use.note_served(str(folder), "ctr-0:8500", [4])
  assert run(capsys, "pin", folder, 2)[0] == 0
  assert run(capsys, "pin", folder, 9)[2].endswith("has no base 9: name one that is there.\n")
  for seed in range(3):
    capsys.readouterr()
    exporter.base()
    out = capsys.readouterr().out
    train(exporter, seed)
    exporter.delta()
  assert there(folder, "base") == [2, 4, 6, 7] and there(folder, "delta") == [2, 3, 6, 7]
  assert out == ""  # It was said before, once.
  _, out, _ = run(capsys, "pin", folder)
  assert out.splitlines() == [
    f"Base 2 stays: it is pinned, by {folder}/pinned/2.",
    f"Base 4 stays: ctr-0:8500 serves it, says {folder}/served/ctr-0_8500.json.",
  ]
  # The server goes on to a newer base, and nobody wants the old one.
  in_use.note_served(str(folder), "ctr-0:8500", [6, 7])
  assert run(capsys, "pin", folder, 2, "--remove")[0] == 0
  assert run(capsys, "pin", folder, 2, "--remove")[0] == 1
  exporter.base()
  assert there(folder, "base") == [6, 7, 8] and there(folder, "delta") == [6, 7]
  assert "base/6 stays beyond the 2 that are kept: ctr-0:8500 serves it" in capsys.readouterr().out
  # What the served version reads is whole.
  session = tfps.export.SavedModelSession(folder / "base" / "6")
  assert np.all(np.isfinite(session.run({"city": ["w1"]})["predictions"]))
  session.close()


def test_a_note_that_cannot_be_read_keeps_nothing_and_stops_nothing(tmp_path):
  folder = str(tmp_path)
  assert in_use.reasons(folder) == {}
  path = in_use.note_served(folder, "[::1]:8500", [3, 1])
  with tf.io.gfile.GFile(path) as file:
    assert json.loads(file.read()) == {"server": "[::1]:8500", "versions": [1, 3]}
  assert set(in_use.reasons(folder)) == {1, 3}
  for content in ("", "{", "[]", '{"versions": 3}', '{"versions": ["x"]}'):
    with tf.io.gfile.GFile(path, "w") as file:
      file.write(content)
    assert in_use.reasons(folder) == {}
