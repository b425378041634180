"""A checkpoint in a model that is not as it was: refused by name, or what fits is taken."""

import ast
import json
import pathlib
import re
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from absl import logging

import tfps
from configs import quickstart
from models.deepfm import DeepFM
from tfps.checkpoint import CheckpointError, CheckpointManager
from tfps.checkpoint.folder import CHECKPOINTS
from tfps.job import train
from tfps.training.config import default_config

SLOTS = ["user", "item", "city"]
IDS = {slot: np.arange(1, 17) + 100 * i for i, slot in enumerate([*SLOTS, "country"])}
LABELS = (np.arange(16) % 3 == 0).astype(np.float32)[:, np.newaxis]


class Saved:
  """A model that was trained, in a checkpoint."""

  def __init__(self, folder, model, table):
    model.fit(IDS, LABELS, batch_size=8, epochs=2, shuffle=False, verbose=0)
    self.model, self.table, self.folder = model, table, str(folder)
    self.path = CheckpointManager(self.folder, model, [table]).save({"at": 1})
    self.prediction = model.predict(IDS, verbose=0)


def make_table():
  return tfps.FeasignTable("ctr", mf_dim=2, accessor=tfps.CtrAccessor(create_threshold=0.1))


def built(model, seed=1):
  keras.utils.set_random_seed(seed)
  model.compile("adam", "binary_crossentropy")
  model.predict(IDS, verbose=0)
  model.optimizer.build(model.trainable_variables)
  return model


def deepfm(slots=SLOTS, hidden=(4,), seed=1):
  keras.utils.set_random_seed(seed)
  table = make_table()
  return built(DeepFM(table, list(slots), hidden=list(hidden)), seed), table


def functional(slots=SLOTS, hidden=(4,), seed=1):
  keras.utils.set_random_seed(seed)
  table = make_table()
  inputs = {slot: keras.Input([], dtype=tf.int64, name=slot) for slot in sorted(slots)}
  embedded = tfps.Embedding(table, slots)(inputs)
  x = keras.layers.Flatten()(embedded.mf)
  for width in hidden:
    x = keras.layers.BatchNormalization()(keras.layers.Dense(width)(x))
  return built(tfps.Model(inputs, tf.sigmoid(keras.layers.Dense(1)(x)))), table


class Towers(tfps.Model):
  """A kernel over two embedding layers, and one over nothing but the number of slots."""

  def __init__(self, table, left, right):
    super().__init__()
    self.left, self.right = tfps.Embedding(table, left), tfps.Embedding(table, right)
    self.dense = keras.layers.Dense(1)

  def call(self, x, training=None):
    parts = [layer(x, training=training).mf for layer in (self.left, self.right)]
    return tf.sigmoid(self.dense(keras.layers.Flatten()(tf.concat(parts, axis=1))))


def towers(left, right):
  keras.utils.set_random_seed(1)
  table = make_table()
  return built(Towers(table, left, right)), table


MAKERS = {"subclassed": deepfm, "functional": functional}


@pytest.fixture(name="saved", scope="module")
def _saved(tmp_path_factory):
  """One checkpoint for each way to make a model."""
  return {
    kind: Saved(tmp_path_factory.mktemp(kind), *make(seed=3)) for kind, make in MAKERS.items()
  }


def state(model, table):
  return [
    *(variable.numpy() for variable in [*model.weights, *model.optimizer.variables]),
    table.statistics()["rows"],
  ]


def restore(folder, made, may_differ=()):
  """Restores into a model; returns what the log said."""
  model, table = made
  lines = []
  warning, logging.warning = logging.warning, lambda text, *values: lines.append(text % values)
  try:
    manager = CheckpointManager(folder, model, [table], read_only=True, may_differ=may_differ)
    manager.restore()
  finally:
    logging.warning = warning
  return lines


def refusal(folder, made, may_differ=()):
  """The sentence with which it is refused; nothing has changed."""
  before = state(*made)
  with pytest.raises(CheckpointError) as raised:
    restore(folder, made, may_differ)
  for one, other in zip(before, state(*made), strict=True):
    np.testing.assert_array_equal(one, other)
  sentence = str(raised.value)
  assert sentence.startswith("Checkpoint ") and "does not fit" in sentence and "\n" not in sentence
  return sentence


def remedy(sentence):
  """What the sentence says that may_differ should be."""
  return ast.literal_eval(re.search(r"may_differ=(\(.*?\)) takes", sentence)[1])


@pytest.mark.parametrize("kind", MAKERS)
def test_the_same_model_comes_back_whole_and_without_a_word(saved, kind):
  model, table = MAKERS[kind]()
  assert restore(saved[kind].folder, (model, table)) == []
  np.testing.assert_array_equal(model.predict(IDS, verbose=0), saved[kind].prediction)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("may_differ", [(), "*"])
@pytest.mark.parametrize(
  "slots", [["item", "user", "city"], ["user", "item", "country"], ["item", "city", "country"]]
)
def test_weights_do_not_go_to_other_slots(saved, kind, slots, may_differ):
  sentence = refusal(saved[kind].folder, MAKERS[kind](slots), may_differ)
  assert f"had the slots user, item, city and now has {', '.join(slots)}" in sentence
  assert "may_differ=" not in sentence


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
  "slots, differing",
  [([*SLOTS, "country"], ["country"]), (["user", "city"], ["item"]),
   (["country", "city", "user", "item"], ["country", "user", "item", "city"])],
)  # fmt: skip
def test_slots_come_and_go_on_request(saved, kind, slots, differing):
  made = model, table = MAKERS[kind](slots)
  named = remedy(refusal(saved[kind].folder, made))
  kernels = {"subclassed": "tower/", "functional": "layer_with_weights-0/"}
  assert sorted(named[:-1]) == sorted(differing) and named[-1].startswith(kernels[kind])
  for i in range(len(named)):
    assert repr(named[i]) in refusal(saved[kind].folder, made, named[:i] + named[i + 1 :])
  started = {weight.name: weight.numpy() for weight in model.weights}
  lines = restore(saved[kind].folder, made, named)
  assert len([line for line in lines if "had the slots user, item, city" in line]) == 1
  assert any(f"weight '{named[-1]}' begins anew" in line for line in lines)
  anew = 0
  for weight, was in zip(model.weights, saved[kind].model.weights, strict=True):
    if weight.shape == was.shape:
      np.testing.assert_array_equal(weight, was)
    else:
      np.testing.assert_array_equal(weight, started[weight.name])
      anew += 1
  assert anew == 1
  assert table.statistics()["rows"] == saved[kind].table.statistics()["rows"]
  assert_states(model, saved[kind].model)


def assert_states(model, was):
  """The optimizer has the states of all weights whose shape is as it was, by their order here."""
  optimizers = model.optimizer, was.optimizer
  assert optimizers[0].iterations.numpy() == optimizers[1].iterations.numpy() > 0
  moved = 0
  for state_of in ("_momentums", "_velocities"):
    for one, other in zip(*(getattr(o, state_of) for o in optimizers), strict=True):
      expected = other if one.shape == other.shape else tf.zeros(one.shape)
      np.testing.assert_array_equal(one, expected)
      moved += np.abs(expected).max() > 0
  assert moved > 4


@pytest.mark.parametrize("kind", MAKERS)
def test_a_tower_grows_on_request(saved, kind):
  made = model, _ = MAKERS[kind](hidden=(6,))
  named = remedy(refusal(saved[kind].folder, made))
  assert len(named) == {"subclassed": 3, "functional": 7}[kind]
  started = [weight.numpy() for weight in model.weights]
  lines = restore(saved[kind].folder, made, named)
  assert len(lines) == len(named) + 1
  for weight, was, start in zip(model.weights, saved[kind].model.weights, started, strict=True):
    block = tuple(slice(0, size) for size in was.shape)
    start[block] = was.numpy()
    np.testing.assert_array_equal(weight, start)
  assert any("takes [6, 4] of [6, 4], the rest is new" in line for line in lines)


def test_layers_come_and_go_on_request(saved):
  made = model, table = deepfm(hidden=(4, 3))
  named = remedy(refusal(saved["subclassed"].folder, made))
  new = [name for name in named if "layer_with_weights-1" in name]
  assert len(new) == 2 and len(named) == 3
  lines = restore(saved["subclassed"].folder, made, ["tower", "output_layer/*"])
  assert [line for line in lines if line.endswith(f"weight '{new[0]}' is new.")]
  np.testing.assert_array_equal(
    model.tower.layers[0].kernel, saved["subclassed"].model.tower.layers[0].kernel
  )
  # And the other way round; what no longer exists is told.
  path = CheckpointManager(saved["subclassed"].folder + "-deeper", model, [table]).save({})
  smaller, smaller_table = deepfm()
  assert new[0] in refusal(path.rpartition("/")[0], (smaller, smaller_table))
  lines = restore(path.rpartition("/")[0], (smaller, smaller_table), "*")
  assert [line for line in lines if line.endswith(f"weight '{new[0]}' is left out.")]
  np.testing.assert_array_equal(smaller.tower.layers[0].kernel, model.tower.layers[0].kernel)


@pytest.mark.parametrize(
  "left, right",
  [(["city"], ["user", "item"]), (["user", "item", "city"], []), (["user"], ["item", "city"])],
)
def test_several_layers_keep_their_slots(tmp_path, left, right):
  was = towers(["user", "item"], ["city"])
  Saved(tmp_path, *was)
  right = right or ["country"]
  for may_differ in ((), "*") if len(left + right) == 3 else ((),):
    sentence = refusal(str(tmp_path), towers(left, right), may_differ)
    assert "layer 'left' had the slots user, item and now has" in sentence


def test_tables_alone_know_no_order(saved):
  table = make_table()
  for slot in reversed(SLOTS):
    table.slot_id(slot)
  CheckpointManager(saved["subclassed"].folder, None, [table], read_only=True).restore()
  assert table.statistics()["rows"] == saved["subclassed"].table.statistics()["rows"]


@pytest.mark.parametrize("slots", [SLOTS, SLOTS[::-1]])
def test_of_an_old_checkpoint_it_is_said_that_nobody_knows_the_order(tmp_path, slots):
  path = pathlib.Path(Saved(tmp_path, *deepfm()).path, "manifest.json")
  content = json.loads(path.read_text())
  del content["checksum"], content["dense"]
  checksum = zlib.crc32(json.dumps(content, sort_keys=True).encode())
  path.write_text(json.dumps({**content, "checksum": checksum}))
  lines = restore(str(tmp_path), deepfm(slots))
  if slots == SLOTS:
    assert lines == []
  else:
    assert len(lines) == 1 and "numbered user, item, city, and now city, item, user" in lines[0]


def test_what_a_newer_version_says_is_kept(saved):
  manifest = CHECKPOINTS.read(saved["subclassed"].path)
  content = manifest.to_json()
  content["dense"]["weights"][0]["initializer"] = "glorot"
  content["dense"]["layers"] = 3
  assert type(manifest).from_json(content).to_json() == content


def test_the_callback_and_the_config_say_what_may_differ(saved, tmp_path):
  model, table = deepfm(hidden=(6,))
  config = default_config()
  config.checkpoint.folder = saved["subclassed"].folder
  config.checkpoint.may_differ = ("tower", "output_layer")
  for may_differ in ((), config.checkpoint.may_differ):
    config.checkpoint.may_differ = may_differ
    saver = train._checkpoint(config.checkpoint, table, None)
    saver.set_model(model)
    saver.on_train_begin()
    if may_differ:
      with pytest.raises(TypeError, match="'at'"):  # The checkpoint's calendar is none of a run.
        saver.resume()
      np.testing.assert_array_equal(
        model.tower.layers[0].kernel[:, :4], saved["subclassed"].model.tower.layers[0].kernel
      )
    else:
      with pytest.raises(CheckpointError, match=r"config.checkpoint.may_differ|may_differ="):
        saver.resume()
    saver._beginning = None
  assert isinstance(quickstart.get_config().checkpoint.may_differ, tuple)
