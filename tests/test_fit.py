"""fit, evaluate and predict on a source, in one process."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from sklearn.metrics import log_loss, roc_auc_score

import tfps
from models.dcn_v2 import DCNv2
from models.deepfm import DeepFM
from models.wide_and_deep import WideAndDeep
from tests.evaluations import naive_gauc
from tfps.learning.metrics import ClickScores, grouped_auc

# user_id, item_id, category, hour, device and city have one feasign each; tags, the seventh slot,
# up to five.
SINGLE_SLOTS = 6


def small_stream(days=2, examples=1200):
  return tfps.data.ClickStream(
    days=days, examples_per_day=examples, batch_size=128, batches_per_ticket=3
  )


def make_model(model_class=DeepFM, **table_arguments):
  table = tfps.FeasignTable(
    "test", mf_dim=4, accessor=tfps.CtrAccessor(create_threshold=0), **table_arguments
  )
  model = model_class(table, list(tfps.data.ClickStream.slots), hidden=[16])
  model.compile("adam", "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
  return table, model


def occurrences(source):
  batches = [
    batch for ticket in source.tickets() for batch in source.open(ticket).as_numpy_iterator()
  ]
  return sum(np.count_nonzero(ids) for x, _ in batches for ids in x.values())


class Calls(keras.callbacks.Callback):
  def __init__(self):
    super().__init__()
    self.made = []

  def on_day_begin(self, day):
    self.made.append(("day begins", day.name))

  def on_train_batch_end(self, batch, logs=None):
    self.made.append(("ticket", batch))
    assert isinstance(float(logs["loss"]), float)

  def on_day_end(self, day, logs=None):
    self.made.append(("day ends", day.name))


@pytest.mark.parametrize("model_class", [DeepFM, WideAndDeep, DCNv2])
def test_every_example_is_trained_once_and_the_models_learn(model_class):
  source = small_stream(days=3, examples=4000)
  table, model = make_model(model_class)
  test = tfps.callbacks.ProgressiveTest(source)
  model.fit(source, callbacks=[test], verbose=0)
  assert table.statistics()["show"] == occurrences(source)
  first, last = test.days[0][1], test.days[-1][1]
  assert first.auc < 0.55 and last.auc > 0.6
  assert test.total.log_loss < first.log_loss


class Conditional(DeepFM):
  """Python conditions of tensors wherever a user may write them."""

  def call(self, inputs, training=None):
    logits = super().call(inputs, training=training)
    if tf.size(logits) < 0:
      logits = -logits
    return logits

  def train_step(self, data):
    if tf.size(data[1]) < 0:
      tf.print("no batch is that small")
    return super().train_step(data)


class ConditionalStream(tfps.data.ClickStream):
  def _batches(self, ticket):
    batches = super()._batches(ticket)
    if ticket.records < 0:
      batches = batches.take(0)
    return batches


def test_autograph_converts_what_the_user_wrote():
  source = ConditionalStream(days=1, examples_per_day=1200, batch_size=128, batches_per_ticket=3)
  table, model = make_model(Conditional)
  model.fit(source, verbose=0)
  assert table.statistics()["show"] == occurrences(source)
  assert model.evaluate(source, verbose=0, return_dict=True)["loss"] > 0


def test_callbacks_count_finished_tickets_and_days():
  calls = Calls()
  _, model = make_model()
  history = model.fit(small_stream(), epochs=1, callbacks=[calls], verbose=0)
  tickets = [("ticket", i) for i in range(8)]
  day_0, day_1 = "day-0", "day-1"
  assert calls.made == [
    ("day begins", day_0), *tickets[:4], ("day ends", day_0),
    ("day begins", day_1), *tickets[4:], ("day ends", day_1),
  ]  # fmt: skip
  assert set(history.history) == {"loss", "auc"}


def test_the_progress_bar_counts_tickets(capsys):
  _, model = make_model()
  model.fit(small_stream(days=1), verbose=1)
  assert "4/4 [" in capsys.readouterr().out


def test_stopping_ends_after_a_ticket_and_does_not_end_the_day():
  class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
      self.model.stop_training = batch == 1

  table, model = make_model()
  calls, end_of_day = Calls(), tfps.callbacks.EndOfDay(table)
  model.fit(small_stream(), callbacks=[Stop(), calls, end_of_day], verbose=0)
  assert calls.made == [("day begins", "day-0"), ("ticket", 0), ("ticket", 1)]
  assert 0 < table.statistics()["show"] < occurrences(small_stream()) / 2
  assert end_of_day.evicted == 0


def test_evaluate_scores_each_example_once_and_changes_nothing():
  source = small_stream()
  table, model = make_model()
  model.fit(source, verbose=0)
  before = table.statistics()["show"], table.statistics()["rows"]
  logs = model.evaluate(source, verbose=0, return_dict=True)
  predictions = model.predict(source)
  labels = np.concatenate([scored["y"] for scored in model.score(source)])
  assert predictions.shape == labels.shape == (2400, 1)
  assert logs["loss"] == pytest.approx(log_loss(labels, predictions), abs=1e-5)
  assert logs["auc"] == pytest.approx(roc_auc_score(labels, predictions), abs=3e-3)
  assert (table.statistics()["show"], table.statistics()["rows"]) == before


def test_validation_on_a_source():
  _, model = make_model()
  history = model.fit(small_stream(days=1), validation_data=small_stream(days=1), verbose=0)
  assert set(history.history) == {"loss", "auc", "val_loss", "val_auc"}


def test_tickets_train_like_the_same_batches_without_tickets():
  source = small_stream(days=1, examples=500)
  table, model = make_model()
  keras.utils.set_random_seed(1)
  model.build_for(source)
  weights = model.get_weights()
  model.fit(source, verbose=0)
  other_table, other = make_model()
  other.build_for(source)
  other.set_weights(weights)
  batches = [b for ticket in source.tickets() for b in source.open(ticket)]
  for batch in batches:
    other.train_on_batch(*batch)
  keys = np.unique(np.concatenate([np.ravel(ids) for x, _ in batches for ids in x.values()]))
  for name, value in table.lookup(keys).items():
    np.testing.assert_allclose(
      value, other_table.lookup(keys)[name], rtol=1e-4, atol=1e-6, err_msg=name
    )


def test_a_plain_dataset_trains_in_one_process():
  source = small_stream(days=1, examples=500)
  dataset = source.open(next(source.tickets()))
  table, model = make_model()
  model.fit(dataset, validation_data=dataset, epochs=2, verbose=0)
  counted = sum(np.count_nonzero(ids) for x, _ in dataset.as_numpy_iterator() for ids in x.values())
  assert table.statistics()["show"] == 2 * counted


def test_a_days_end_ages_and_evicts():
  source = small_stream(days=2)
  table, model = make_model()
  end_of_day = tfps.callbacks.EndOfDay(table)
  model.fit(source, callbacks=[end_of_day], verbose=0)
  assert end_of_day.evicted > 0
  assert table.statistics()["show"] < occurrences(source) * 0.99


@pytest.mark.parametrize(
  "argument", [{"y": np.ones(3)}, {"batch_size": 3}, {"sample_weight": np.ones(3)}]
)
def test_arguments_for_arrays_do_not_go_with_a_source(argument):
  _, model = make_model()
  with pytest.raises(ValueError, match=next(iter(argument))):
    model.fit(small_stream(), **argument)


def test_click_scores_are_those_of_sklearn():
  random = np.random.default_rng(0)
  labels = (random.random(5000) < 0.3).astype(np.float32)
  predictions = np.clip(random.normal(0.3 + 0.1 * labels, 0.1), 0, 1).astype(np.float32)
  weights = random.random(5000)
  scores = ClickScores()
  for part in np.array_split(np.arange(5000), 7):
    scores.update(labels[part], predictions[part], weights[part])
  assert scores.auc == pytest.approx(
    roc_auc_score(labels, predictions, sample_weight=weights), abs=1e-5
  )
  clipped = np.clip(predictions.astype(np.float64), 1e-7, 1 - 1e-7)
  assert scores.log_loss == pytest.approx(
    log_loss(labels, clipped, sample_weight=weights), rel=1e-6
  )
  mean_ratio = np.average(predictions, weights=weights) / np.average(labels, weights=weights)
  assert scores.calibration == pytest.approx(mean_ratio)


def test_grouped_auc_is_the_weighted_mean_over_users():
  random = np.random.default_rng(1)
  users = random.integers(0, 50, 2000)
  labels = (random.random(2000) < 0.3).astype(np.float32)
  predictions = np.round(random.random(2000), 1)
  expected = naive_gauc(labels, predictions, users)
  assert grouped_auc(labels, predictions, users) == pytest.approx(expected)


def test_scores_refuse_what_is_no_probability():
  with pytest.raises(ValueError, match="probability"):
    ClickScores().update([1.0], [float("nan")])
