"""Several epochs with held-out examples: what a config asks for, and what a run then does."""

import json

import numpy as np
import pytest

import tfps
from tests import zoo
from tfps.cli import main as cli
from tfps.job import held_out
from tfps.job import train as run
from tfps.training.config import default_config

SLOTS = ("user_id", "item_id", "category", "tags", "hour", "device", "city")


def clicks(seed):
  return tfps.data.ClickStream(days=1, examples_per_day=512, batch_size=64, seed=seed)


def configured(epochs, **validation):
  config = default_config()
  config.slots = SLOTS
  config.model.args.hidden = (16,)
  config.accessor.create_threshold = 0.0
  config.mf_optimizer = config.lr_optimizer = {"name": "Adagrad", "learning_rate": 0.5}
  config.dense_optimizer.learning_rate = 0.01
  config.epochs, config.progressive_test, config.end_of_day = epochs, False, False
  config.validation.update(validation)
  return config


class Kept:
  """A run, with its table and model."""

  def __init__(self, epochs, **validation):
    more = lambda config, table: [_Remember(self, table)]
    config = configured(epochs, **validation)
    model_class = tfps.models.DeepFM
    self.summary = run.run(
      config, clicks(1), model_class, more_callbacks=more, validation=clicks(2)
    )

  def state(self):
    """What it predicts: rows and dense weights together."""
    return self.model.predict(clicks(2))


class _Remember(tfps.callbacks.Callback):
  def __init__(self, kept, table):
    super().__init__()
    self._kept, kept.table = kept, table
    kept.rates = []

  def on_epoch_begin(self, epoch, logs=None):
    self._kept.model = self.model

  def on_train_batch_end(self, batch, logs=None):
    rates = float(self.model.optimizer.learning_rate), self._kept.table.learning_rate_factor
    self._kept.rates.append(rates)


@pytest.fixture(name="stopped", scope="module")
def _stopped(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp("best"))
  return Kept(12, patience=2, monitor="val_loss", best_folder=folder)


def test_a_run_stops_and_goes_back_to_its_best_epoch(stopped):
  losses = [found["loss"] for found in stopped.summary.epochs]
  best = int(np.argmin(losses))
  assert len(losses) == best + 3 < 12, losses
  again = Kept(best + 1)
  assert again.summary.epochs == stopped.summary.epochs[: best + 1]
  np.testing.assert_array_equal(stopped.state(), again.state())


def test_the_summary_has_each_epoch(stopped):
  as_json = json.loads(json.dumps(stopped.summary.as_dict()))
  assert [sorted(found) for found in as_json["epochs"]] == [["auc", "loss"]] * len(
    stopped.summary.epochs
  )
  assert f"     1   loss {stopped.summary.epochs[0]['loss']:.4f}   auc " in stopped.summary.text()


def test_learning_rates_of_rows_and_towers_fall_together():
  # No epoch is better by that much than the first.
  kept = Kept(4, reduce_rate=0.1, min_delta=10.0, min_rate=0.0005)
  tickets = len(kept.rates) // 4
  dense, factors = np.array(kept.rates)[::tickets].T
  np.testing.assert_allclose(dense, [0.01, 0.01, 0.001, 0.0005], rtol=1e-5)
  np.testing.assert_allclose(factors, [1, 1, 0.1, 0.05], rtol=1e-5)


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"patience": 2}, "config.validation.patience is 2, but nothing is held out: write"),
    ({"reduce_rate": 0.0}, "config.validation.reduce_rate is 0.0, but nothing is held out"),
    ({"best_folder": "best"}, "config.validation.best_folder is 'best', but nothing is held"),
  ],
)
def test_what_needs_held_out_examples_says_so(settings, message):
  with pytest.raises(tfps.errors.ConfigError, match=message):
    run.run(configured(1, **settings), clicks(1), tfps.models.DeepFM)


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"reduce_rate": 0.0}, "reduce_rate is 0.0; it must be above 0 and at most 1"),
    ({"reduce_rate": float("nan")}, "reduce_rate is nan; it must be above 0"),
    ({"mode": "most"}, "config.validation.mode is 'most'; it must be one of auto, min, max"),
  ],
)
def test_wrong_settings_end_in_one_sentence(settings, message):
  with pytest.raises(tfps.errors.ConfigError, match=message):
    run.run(configured(1, **settings), clicks(1), tfps.models.DeepFM, validation=clicks(2))


def test_rates_that_cannot_fall_are_refused():
  table = zoo.make_table(lr_optimizer=tfps.FTRL())
  with pytest.raises(tfps.errors.ConfigError, match="reduce_rate: learning_rate_factor does not"):
    held_out.callbacks(configured(1, reduce_rate=0.5), table)


CONFIG = """
import sys
sys.path.insert(0, {root!r})
from tests.test_held_out import clicks, configured

def get_config():
  return configured(2)

def source(config):
  return clicks(config.seed)

def validation_source(config):
  return clicks(2)
"""


def test_the_command_validates_on_the_config_s_source(tmp_path, stopped):
  root = run.__file__.rsplit("/tfps/", 1)[0]
  (tmp_path / "mine.py").write_text(CONFIG.format(root=root))
  flags = [f"--config.model.file={root}/models/deepfm.py", "--config.validation.patience=1"]
  summary = f"--config.summary_file={tmp_path}/summary.json"
  assert cli.main(["train", f"--config={tmp_path}/mine.py", *flags, summary]) == 0
  epochs = json.loads((tmp_path / "summary.json").read_text())["epochs"]
  assert epochs == stopped.summary.epochs[:2]


def test_arrays_have_a_best_epoch_too(tmp_path):
  rng = np.random.default_rng(1)
  x, y = zoo.features(rng, 32), zoo.labels("DeepFM", rng, 32)
  states = []

  class States(tfps.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
      logs["said"] = [3, 1, 2][epoch]
      states.append(self.model.predict(x, verbose=0))

  model = zoo.make_model("DeepFM")
  model.compile("adam", "binary_crossentropy")
  best = tfps.callbacks.BestCheckpoint(str(tmp_path), "said", restore=True)
  model.fit(x, y, epochs=3, callbacks=[States(), best], verbose=0)
  assert (best.best, best.best_epoch, best.mode) == (1, 1, "min")
  assert (states[1] != states[2]).any()
  np.testing.assert_array_equal(model.predict(x, verbose=0), states[1])
