"""Labels that are no clicks: the first batch of them is told, once."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from absl import logging

import tfps

IDS = {"user": np.arange(1, 65) % 7 + 1}


class Linear(tfps.Model):
  def __init__(self):
    super().__init__()
    self.table = tfps.FeasignTable("test", mf_dim=2)
    self.embedding = tfps.Embedding(self.table, ["user"])

  def call(self, features, training=None):
    return self.embedding(features, training=training).lr_logit


class Counting(Linear):
  def counts(self, x, y, sample_weight):
    ones = tf.ones(tf.shape(y)[0])
    return ones, tf.cast(tf.reshape(y, [-1]) > 3, tf.float32)


@pytest.fixture(name="lines")
def _lines(monkeypatch):
  lines = []
  monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
  return lines


def random(low, high):
  return np.random.default_rng(0).integers(low, high, [64, 1]).astype(np.float32)


LABELS = {
  "ratings": random(1, 6),
  "classes": random(0, 10),
  "-1 and 1": random(0, 2) * 2 - 1,
  "negative": -random(0, 2),
}
CLICKS = {
  "clicks": random(0, 2),
  "likely clicks": np.random.default_rng(0).random([64, 1]).astype(np.float32),
}


def fit(model, y, batch_size=16, epochs=2, **arguments):
  model.compile("sgd", "mse")
  model.fit(IDS, y, batch_size=batch_size, epochs=epochs, verbose=0, **arguments)


def assert_told(lines, model):
  assert len(lines) == 1
  assert f"Model '{model.name}' counts labels as clicks" in lines[0] and "click_label" in lines[0]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", LABELS)
def test_arrays(lines, kind, weighted):
  model = Linear()
  arguments = {"sample_weight": np.linspace(0.1, 2, 64)} if weighted else {}
  fit(model, LABELS[kind], **arguments)
  assert_told(lines, model)
  fit(model, LABELS[kind])
  assert len(lines) == 1
  other = Linear()
  fit(other, LABELS[kind], callbacks=keras.callbacks.CallbackList([]))
  assert len(lines) == 2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", CLICKS)
def test_clicks_are_clicks_however_they_are_weighted(lines, kind, weighted):
  arguments = {"sample_weight": np.linspace(0.1, 2, 64)} if weighted else {}
  fit(Linear(), CLICKS[kind], **arguments)
  assert lines == []


def test_who_says_what_a_click_is_is_not_told(lines):
  fit(Counting(), LABELS["ratings"])
  two = Linear()
  two.click_label = 1
  fit(two, np.concatenate([LABELS["ratings"], CLICKS["clicks"]], axis=1))
  assert lines == []


def test_a_source_is_looked_at_after_its_first_ticket(lines):
  source = tfps.data.ClickStream(days=2, examples_per_day=64, batch_size=16, batches_per_ticket=1)

  class Rated(Linear):
    def __init__(self):
      super().__init__()
      self.embedding = tfps.Embedding(self.table, ["user_id"])

    def train_step(self, data):
      x, y = data[:2]
      return super().train_step((x, 5 * y + 1))

  told_after = []
  model = Rated()
  model.compile("sgd", "mse")

  class Watch(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
      told_after.append(len(lines))

  model.fit(source, callbacks=[Watch()], epochs=2, verbose=0)
  assert_told(lines, model)
  assert told_after[:2] == [0, 1]
