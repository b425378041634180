"""What tests of evaluators expect and find."""

import pathlib

import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score


def naive_gauc(label, prediction, group):
  """The mean AUC of groups with both labels, by their sizes."""
  aucs, sizes = [], []
  for value in np.unique(group):
    own = group == value
    if 0 < label[own].sum() < own.sum():
      aucs.append(roc_auc_score(label[own], prediction[own]))
      sizes.append(own.sum())
  return np.average(aucs, weights=sizes)


def events_of(folder):
  """{step: {tag: value}} of event files; fails if anything is there twice."""
  steps = {}
  for path in pathlib.Path(folder).glob("events*"):
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      for value in event.summary.value:
        tags = steps.setdefault(event.step, {})
        assert value.tag not in tags, f"{value.tag} is there twice at step {event.step}"
        tags[value.tag] = tf.make_ndarray(value.tensor)
  return steps
