"""Samples of a made-up stream, written as `tfps join` writes them."""

import os

import numpy as np
import tensorflow as tf

import tfps


def example(number, time_ms):
  """Sample `number` as a serialized tf.Example: its own id, one of 50 items, a third clicked."""
  features = {
    "user": [number],
    "item": [number % 50],
    "time": [time_ms],
    "label": [number % 3 == 0],
  }
  feature = {
    name: tf.train.Feature(int64_list=tf.train.Int64List(value=[int(v) for v in values]))
    for name, values in features.items()
  }
  return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def joined(number, time_ms, show=1.0, click=None):
  """The same as `tfps join` writes it."""
  label = float(number % 3 == 0) if click is None else click
  texts = {"request_id": f"r{number}", "item_id": f"i{number % 50}", "user_id": f"u{number}"}
  numbers = {"label/click": label, "weight/click": 1.0, "show": show, "click": label, "weight": 1.0}
  feature = {
    name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
    for name, text in texts.items()
  }
  for name, value in numbers.items():
    feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
  for name in ("time", "label_time"):
    feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[time_ms]))
  return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(folder, name, numbers, times, make=example):
  """A whole file that appears under its name in one step; `times` in seconds."""
  os.makedirs(folder, exist_ok=True)
  hidden = os.path.join(folder, f".{name}")
  with tf.io.TFRecordWriter(hidden) as writer:
    for number, time in zip(numbers, times):
      writer.write(make(int(number), round(time * 1000)))
  os.rename(hidden, os.path.join(folder, name))


def parse(records):
  """(x, y) of serialized examples [n]."""
  names = ("user", "item", "label")
  parsed = tf.io.parse_example(records, {n: tf.io.FixedLenFeature([], tf.int64) for n in names})
  x = {slot: tfps.feasign(slot, parsed[slot]) for slot in ("user", "item")}
  return x, tf.cast(parsed["label"], tf.float32)[:, tf.newaxis]


def numbers_of(source, tickets):
  """The ids of the samples of some tickets, in order."""
  numbers = np.arange(20_000)
  wanted = dict(zip(tfps.feasign("user", numbers).numpy().tolist(), numbers.tolist()))
  found = []
  for ticket in tickets:
    for x, _ in source.open(ticket).as_numpy_iterator():
      found += [wanted[key] for key in np.ravel(x["user"]).tolist()]
  return found
