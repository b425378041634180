"""`tfps export CHECKPOINT`: the base that the trainer would have exported at that moment."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

import tfps
from tests.commands import fails, run
from tests.test_fold import rows_of
from tfps.checkpoint import CheckpointManager, reader
from tfps.cli import config as config_lib
from tfps.export import extras, saved_capture
from tfps.export.artifact import ARTIFACTS
from tfps.export.checking.verify import verify
from tfps.job import train as training

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = """
import tfps
from tfps.training.config import default_config

def get_config():
  config = default_config()
  config.slots = ("user_id", "item_id", "tags")
  config.model.args.hidden = (8,)
  config.table.mf_init_range = 0.3
  config.table.num_shards = 32
  config.accessor.create_threshold = 1.0
  config.accessor.base_update_threshold = 0.5
  config.slot_policies = {"tags": {"mf_dim": 3, "accessor": {"base_update_threshold": 4.0}}}
  config.export.examples = 40
  return config

def source(config):
  return tfps.data.ClickStream(days=2, examples_per_day=1500, seed=1, batch_size=128)
"""


@pytest.fixture(scope="module", name="config_file")
def _config_file(tmp_path_factory):
  file = tmp_path_factory.mktemp("config") / "configs" / "run.py"
  file.parent.mkdir()
  file.write_text(CONFIG)
  (file.parent.parent / "models").symlink_to(ROOT / "models")
  return file


def test_it_is_the_base_that_the_trainer_exports(tmp_path, config_file, capsys, monkeypatch):
  module, config = config_lib.load(str(config_file), [])
  source = module.source(config)
  model_class = config_lib.load_attribute(
    config.model.file, config.model.name, base=config_lib.root(module)
  )
  table, model = training.build(config, model_class, tf.distribute.get_strategy())
  model.fit(source.day(0), verbose=0)
  table.end_of_day(0)
  model.fit(source.day(1), verbose=0)
  manager = CheckpointManager(tmp_path / "checkpoints", model, [table])
  checkpoint = manager.save({"day": 1})
  before = reader.open_checkpoint(checkpoint).tables["ctr"]
  examples = source.raw_inputs.sample(1, 40)
  exporter = tfps.export.Exporter(model, tmp_path / "trainer", source.raw_inputs)
  step = int(model.optimizer.iterations.numpy())
  expected = exporter.base(day=1, step=step, examples=examples)
  # Slices of a few shards each.
  monkeypatch.setattr(saved_capture, "_SLICE_BYTES", 4000)
  code, out, err = run(
    capsys, "export", tmp_path / "checkpoints", f"--config={config_file}",
    f"--output={tmp_path / 'offline'}", "--config.dense_optimizer.learning_rate=0.5",
  )  # fmt: skip
  assert code == 0, err
  path = str(tmp_path / "offline" / "base" / "1")
  assert out == f"Exported {path}.\n"
  rows = rows_of(path)["ctr"]
  assert rows == rows_of(expected)["ctr"]
  assert 50 < len(rows) < sum(len(shard.rows.keys) for shard in before.shards())
  assert len(list(pathlib.Path(path, "variables").glob("variables.data-*"))) > 3
  for name in ("input", "prediction"):
    ours, theirs = (
      extras.read_examples(f"{one}/{extras.EXAMPLES}")[name == "prediction"]
      for one in (path, expected)
    )
    assert set(ours) == set(theirs)
    for key, value in ours.items():
      np.testing.assert_array_equal(value, theirs[key])
  assert np.ptp(ours["predictions"]) > 0.05
  assert verify(path)["examples"] == 40
  ours, theirs = ARTIFACTS.read(path), ARTIFACTS.read(expected)
  assert ours.lineage != theirs.lineage and ours.checkpoint == checkpoint
  # The layout has the names that Keras gave the variables: the second model of a process has
  # others.
  assert ours.weights.size == theirs.weights.size
  for name in ("kind", "version", "day", "step", "tables"):
    assert getattr(ours, name) == getattr(theirs, name), name


def test_what_does_not_fit_is_told_in_one_sentence(tmp_path, config_file, capsys):
  arguments = ("export", tmp_path, f"--config={config_file}")
  assert "give --output, or set config.export.folder" in fails(capsys, *arguments)
  assert "There is no checkpoint at" in fails(capsys, *arguments, f"--output={tmp_path}/export")
  table = tfps.FeasignTable("ctr", mf_dim=5, num_shards=32)
  CheckpointManager(tmp_path, None, [table]).save({})
  told = fails(capsys, *arguments, f"--output={tmp_path}/export")
  assert "does not fit: table 'ctr' was saved with mf_dim=5 and now has mf_dim=8" in told
  assert not (tmp_path / "export").exists()
