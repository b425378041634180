"""Samples of the join as a model trains on them, with the counts that each brings."""

import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests import streams
from tfps.data import samples

RAW = tfps.data.RawInputs(
  {"user_id": tf.TensorSpec([None], tf.string), "tags": tf.TensorSpec([None, None], tf.string)},
  lambda raw: {slot: tfps.feasign(slot, values, padding="") for slot, values in raw.items()},
)


def both(number):
  """Two samples of one show, as an early join writes them: a negative, then a bare positive."""
  return [
    streams.joined(number, 1000, click=0.0),
    streams.joined(number, 1000, show=0.0, click=1.0),
  ]


def test_one_label():
  x, y, weight = tfps.data.parse_samples(RAW)(tf.constant(both(7)))
  assert x["user_id"].numpy().tolist() == tfps.feasign("user_id", ["u7", "u7"]).numpy().tolist()
  assert x["tags"].shape == [2, 0]  # These samples have none.
  assert x[samples.SHOW].numpy().tolist() == [1, 0] and x[samples.CLICK].numpy().tolist() == [0, 1]
  assert y.numpy().tolist() == [[0], [1]] and weight.numpy().tolist() == [1, 1]


def test_several_labels_have_weights_of_their_own():
  example = tf.train.Example.FromString(both(7)[0])
  for name, value in (("label/like", 1.0), ("weight/like", 0.0), ("weight", 2.0)):
    example.features.feature[name].float_list.value[:] = [value]
  records = tf.constant([example.SerializeToString()])
  _, y, weight = tfps.data.parse_samples(RAW, ["click", "like"])(records)
  assert {name: value.numpy().tolist() for name, value in y.items()} == {
    "click": [[0.0]],
    "like": [[1.0]],
  }
  assert {name: value.numpy().tolist() for name, value in weight.items()} == {
    "click": [2.0],
    "like": [0.0],
  }
  with pytest.raises(ValueError, match="labels is empty"):
    tfps.data.parse_samples(RAW, [])


def test_what_an_early_join_repeats_is_shown_once(tmp_path):
  path = str(tmp_path / "a.tfrecord")
  with tf.io.TFRecordWriter(path) as writer:
    for number in range(3):
      for record in both(number):
        writer.write(record)
  parse = tfps.data.parse_samples(RAW)
  source = tfps.data.source(path, parse, format="tfrecord", batch_size=4)
  table = tfps.FeasignTable("early", mf_dim=1, num_shards=8)
  users = keras.Input([], dtype=tf.int64, name="user_id")
  model = tfps.Model({"user_id": users}, tf.sigmoid(tfps.Embedding(table,
  ["user_id"])({"user_id": users}).lr_logit))  # fmt: skip
  model.compile("sgd", tfps.losses.FakeNegativeWeighted())
  model.fit(source, verbose=0)
  rows = table.lookup(tfps.feasign("user_id", ["u0", "u1", "u2"]).numpy())
  assert rows["statistics"][:, :2].tolist() == [[1, 1]] * 3
