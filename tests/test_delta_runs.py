"""Deltas during training, and the lineage across restarts."""

import os

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from models.deepfm import DeepFM
from tests import exports
from tfps.checkpoint import CheckpointManager
from tfps.export.artifact import ARTIFACTS

SOURCE = tfps.data.ClickStream(days=2, examples_per_day=2000, batch_size=100, batches_per_ticket=2)


def make_model():
  keras.utils.set_random_seed(1)
  accessor = tfps.CtrAccessor(create_threshold=1, base_update_threshold=0, delta_update_threshold=0)
  table = tfps.FeasignTable("ctr", mf_dim=2, accessor=accessor)
  model = DeepFM(table, list(SOURCE.slots), hidden=[4])
  model.compile("adam", "binary_crossentropy")
  return model, table


def fit(folder, source=SOURCE, **every):
  """Trains with exports and checkpoints as a process of a run would; returns the two callbacks."""
  model, _table = make_model()
  base = tfps.callbacks.BaseExport(model, folder / "export", source.raw_inputs)
  delta = tfps.callbacks.DeltaExport(base.exporter, **every)
  saver = tfps.callbacks.Checkpoint(str(folder / "checkpoints"), exporter=base.exporter)
  # Nothing is being written when a ticket ends, so that each run has the same moments.
  wait = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: base.exporter.wait())
  callbacks = [wait, tfps.callbacks.EndOfDay(base_export=[base]), delta, saver]
  model.fit(source, verbose=0, callbacks=callbacks)
  return base, delta


def test_deltas_come_when_so_many_examples_are_trained(tmp_path):
  base, delta = fit(tmp_path, every_examples=500)
  # The first export is a base, and at each day's end there is one.
  assert sorted(os.listdir(tmp_path / "export" / "base")) == ["1", "2", "3"]
  manifests = [ARTIFACTS.read(path) for path in delta.paths]
  assert {content.lineage for content in manifests} == {base.exporter.lineage}
  # 100 examples a step, two steps a ticket, 20 steps a day.
  assert [(content.base, content.sequence, content.step) for content in manifests] == [
    (1, 1, 12), (1, 2, 18), (2, 1, 26), (2, 2, 32), (2, 3, 38)]  # fmt: skip


def test_deltas_come_when_so_many_minutes_have_passed(tmp_path):
  _, delta = fit(tmp_path, every_minutes=1e-9)
  # At each moment but those that have a base: the first, and the days' ends, when nothing is
  # trained since.
  assert len(delta.paths) == 17


def test_a_delta_that_cannot_be_written_is_in_the_next(tmp_path, capsys):
  model, table = make_model()
  exporter = tfps.export.Exporter(model, tmp_path, SOURCE.raw_inputs)
  model.fit(SOURCE.day(0), verbose=0)
  exporter.base()
  delta = tfps.callbacks.DeltaExport(exporter, every_examples=1)
  (tmp_path / "delta").touch()  # No folder can be made here.

  class Repair(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
      exporter.wait()
      if batch == 4:
        (tmp_path / "delta").unlink(missing_ok=True)

  model.fit(SOURCE.day(1), verbose=0, callbacks=[Repair(), delta])
  assert "a delta could not be written, and the next has its rows" in capsys.readouterr().err
  assert delta.paths[0].endswith("/delta/1/1")
  exporter.delta()
  # Everything that was trained since the base is in some delta.
  captured = table.lookup(np.concatenate(list(keys(tmp_path / "delta" / "1"))))
  np.testing.assert_allclose(captured["statistics"][:, 2], 0, atol=1e-9)
  assert table.statistics()["rows"] > 100 and captured["served"].all()


def keys(folder):
  for path in sorted(folder.iterdir()):
    yield tf.train.load_checkpoint(f"{path}/rows").get_tensor("ctr/keys")


def test_a_lineage_goes_on_where_nothing_was_published_later(tmp_path):
  first, _ = fit(tmp_path, source=SOURCE.day(0), every_examples=700)
  lineage = first.exporter.lineage
  model, table = make_model()
  model.build_for(SOURCE)
  exporter = tfps.export.Exporter(model, tmp_path / "export", SOURCE.raw_inputs)
  CheckpointManager(tmp_path / "checkpoints", model, [table], exporter=exporter).restore()
  assert exporter.lineage == lineage and exporter.has_base
  path = exporter.delta()
  content = ARTIFACTS.read(path)
  assert (content.lineage, content.base, content.sequence) == (lineage, 2, 1)
  # Now something was published after the checkpoint.
  model, table = make_model()
  model.build_for(SOURCE)
  exporter = tfps.export.Exporter(model, tmp_path / "export", SOURCE.raw_inputs)
  CheckpointManager(tmp_path / "checkpoints", model, [table], exporter=exporter).restore()
  assert exporter.lineage != lineage and not exporter.has_base
  with pytest.raises(tfps.export.ExportError, match="export a base"):
    exporter.delta()
  assert ARTIFACTS.read(exporter.base()).lineage == exporter.lineage


def test_the_times_must_be_said(tmp_path):
  model, _ = exports.make_small_model()
  exporter = tfps.export.Exporter(model, tmp_path, exports.SMALL_RAW)
  with pytest.raises(ValueError, match="every_examples or every_minutes must be given"):
    tfps.callbacks.DeltaExport(exporter)
  with pytest.raises(ValueError, match="every_minutes is -1"):
    tfps.callbacks.DeltaExport(exporter, every_minutes=-1)
