"""Every callback that Keras ships works on a source, or is refused when fit begins."""

import csv
import inspect

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfps
from tfps.checkpoint import CheckpointManager

SLOTS = ["user_id", "item_id"]


class Clicks(tfps.Model):
  def __init__(self, table):
    super().__init__()
    self.embedding = tfps.Embedding(table, SLOTS)
    self.dense = keras.layers.Dense(1)

  def call(self, features, training=None):
    embedded = self.embedding(features, training=training)
    return tf.sigmoid(embedded.lr_logit + self.dense(keras.layers.Flatten()(embedded.mf)))


class Run:
  """A model with what it is trained on; its validation loss is what `losses` say."""

  def __init__(self):
    accessor = tfps.CtrAccessor(create_threshold=1.0)
    self.table = tfps.FeasignTable("clicks", mf_dim=2, accessor=accessor)
    self.model = Clicks(self.table)
    self.model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")
    self.source = tfps.data.ClickStream(days=1, examples_per_day=256, batch_size=64)
    self.validation = tfps.data.ClickStream(days=1, examples_per_day=128, batch_size=64, seed=2)

  def fit(self, *callbacks, epochs=3, losses=None, **arguments):
    first = [Say(losses)] if losses else []
    return self.model.fit(
      self.source, epochs=epochs, validation_data=self.validation, verbose=0,
      callbacks=[*first, *callbacks], **arguments,
    )  # fmt: skip

  def state(self):
    """What it predicts."""
    return self.model.predict(self.validation)


class Say(keras.callbacks.Callback):
  """Puts values into the logs, for the callbacks after it."""

  def __init__(self, values):
    super().__init__()
    self._values = values

  def on_epoch_end(self, epoch, logs=None):
    logs["said"] = self._values[epoch]


class States(keras.callbacks.Callback):
  def __init__(self, run):
    super().__init__()
    self.states = []
    self._run = run

  def on_epoch_end(self, epoch, logs=None):
    self.states.append(self._run.state())


def restored(folder):
  """Another run with what the newest checkpoint in a folder holds."""
  run = Run()
  run.model.build_for(run.source)
  CheckpointManager(folder, run.model, [run.table], read_only=True).restore()
  return run


@pytest.fixture(scope="module")
def run():
  return Run()


def works_csv_logger(run, tmp_path):
  history = run.fit(keras.callbacks.CSVLogger(f"{tmp_path}/log.csv")).history
  with open(f"{tmp_path}/log.csv") as file:
    rows = list(csv.DictReader(file))
  for name, values in history.items():
    assert [float(row[name]) for row in rows] == pytest.approx(values)


def works_early_stopping(run, tmp_path):
  stopping = keras.callbacks.EarlyStopping("said", patience=1)
  assert len(run.fit(stopping, losses=[3, 1, 2, 0], epochs=4).epoch) == 3


def works_history(run, tmp_path):
  own = keras.callbacks.History()
  assert run.fit(own, epochs=2).history == own.history
  assert sorted(own.history) == ["loss", "val_loss"] and own.epoch == [0, 1]


def works_lambda_callback(run, tmp_path):
  seen = []
  run.fit(
    keras.callbacks.LambdaCallback(
      on_epoch_end=lambda epoch, logs: seen.append(epoch),
      on_train_batch_end=lambda batch, logs: seen.append(logs["loss"] > 0),
    ),
    epochs=1,
  )
  assert seen == [True] * len(list(run.source.tickets())) + [0]


def works_learning_rate_scheduler(run, tmp_path):
  schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (1 + epoch))
  assert run.fit(schedule).history["lr"] == pytest.approx([0.1, 0.05, 0.1 / 3])


def works_progbar_logger(run, tmp_path):
  run.fit(keras.callbacks.ProgbarLogger("steps"), epochs=1)


def works_reduce_lr_on_plateau(run, tmp_path):
  run.model.optimizer.learning_rate = 0.1
  reduce = keras.callbacks.ReduceLROnPlateau("said", factor=0.5, patience=1)
  history = run.fit(reduce, losses=[1, 1, 1])
  assert history.history["lr"] == pytest.approx([0.1, 0.1, 0.05])
  assert float(run.model.optimizer.learning_rate) == pytest.approx(0.025)


def works_remote_monitor(run, tmp_path, monkeypatch):
  sent = []
  monkeypatch.setattr(
    "tf_keras.src.callbacks.requests",
    type("Requests", (), {"post": lambda url, **kwargs: sent.append(kwargs)}),
  )
  history = run.fit(keras.callbacks.RemoteMonitor(send_as_json=True), epochs=2)
  assert [one["json"]["loss"] for one in sent] == pytest.approx(history.history["loss"])


def works_tensor_board(run, tmp_path):
  board = keras.callbacks.TensorBoard(
    str(tmp_path), histogram_freq=1, update_freq=1, write_steps_per_second=True
  )
  history = run.fit(board, epochs=2).history
  events = {}
  for part in ("train", "validation"):
    events[part] = EventAccumulator(f"{tmp_path}/{part}", {"tensors": 0}).Reload()
  values = lambda part, tag: [
    float(tf.make_ndarray(event.tensor_proto)) for event in events[part].Tensors(tag)
  ]
  assert values("train", "epoch_loss") == pytest.approx(history["loss"])
  assert values("validation", "epoch_loss") == pytest.approx(history["val_loss"])
  steps = [event.step for event in events["train"].Tensors("batch_loss")]
  assert steps == list(range(1, 2 * len(list(run.source.tickets())) + 1))


def works_terminate_on_nan(run, tmp_path):
  stop = keras.callbacks.TerminateOnNaN()
  assert len(run.fit(stop, epochs=2).epoch) == 2
  stop.on_batch_end(0, {"loss": float("nan")})
  assert run.model.stop_training


def as_on_arrays(callback):
  """What Keras itself cannot run any more fails in the same way on a source."""

  def check(run, tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(Exception) as expected:
      model.fit(np.ones([2, 2]), np.ones([2, 1]), callbacks=[callback()], verbose=0)
    with pytest.raises(expected.type):
      run.fit(callback(), epochs=1)

  return check


def refused(make, instead):
  def check(run, tmp_path):
    x = {slot: np.arange(1, 5) for slot in SLOTS}
    before = run.state()
    for fit in (
      lambda: run.fit(make(str(tmp_path))),
      lambda: run.model.fit(
        run.source, callbacks=keras.callbacks.CallbackList([make(str(tmp_path))]), verbose=0
      ),
      lambda: run.model.evaluate(run.source, callbacks=[make(str(tmp_path))], verbose=0),
      lambda: run.model.fit(x, np.ones([4, 1]), callbacks=make(str(tmp_path)), verbose=0),
      lambda: run.model.evaluate(x, np.ones([4, 1]), callbacks=[make(str(tmp_path))], verbose=0),
    ):
      with pytest.raises(ValueError, match=instead) as raised:
        fit()
      assert "the rows of table 'clicks'" in str(raised.value)
    np.testing.assert_array_equal(run.state(), before)

  return check


_Refused = keras.callbacks
CALLBACKS = {
  "BackupAndRestore": refused(_Refused.BackupAndRestore, r"tfps\.callbacks\.Checkpoint"),
  "BaseLogger": as_on_arrays(keras.callbacks.BaseLogger),
  "CSVLogger": works_csv_logger,
  "Callback": lambda run, tmp_path: run.fit(keras.callbacks.Callback(), epochs=1),
  "CallbackList": works_lambda_callback,
  "EarlyStopping": works_early_stopping,
  "History": works_history,
  "LambdaCallback": works_lambda_callback,
  "LearningRateScheduler": works_learning_rate_scheduler,
  "ModelCheckpoint": refused(_Refused.ModelCheckpoint, r"tfps\.callbacks\.BestCheckpoint"),
  "ProgbarLogger": works_progbar_logger,
  "ReduceLROnPlateau": works_reduce_lr_on_plateau,
  "RemoteMonitor": works_remote_monitor,
  "SidecarEvaluatorModelExport": refused(
    lambda path: _Refused.SidecarEvaluatorModelExport(f"{path}/best", f"{path}/ckpt"),
    r"tfps\.callbacks\.BestCheckpoint",
  ),
  "TensorBoard": works_tensor_board,
  "TerminateOnNaN": works_terminate_on_nan,
  "experimental.BackupAndRestore": refused(
    _Refused.experimental.BackupAndRestore, r"tfps\.callbacks\.Checkpoint"
  ),
  "experimental.UpdateEmbeddingCallback": refused(
    lambda path: _Refused.experimental.UpdateEmbeddingCallback(
      keras.layers.experimental.DynamicEmbedding(4, 2, initial_vocabulary=tf.constant(["a"])), 1
    ),
    "take every id",
  ),
}


def shipped():
  """The names of all callbacks of Keras."""
  modules = {"": keras.callbacks, "experimental.": keras.callbacks.experimental}
  return sorted(
    prefix + name
    for prefix, module in modules.items()
    for name, value in vars(module).items()
    if inspect.isclass(value) and not name.startswith("_")
  )


def test_no_callback_of_keras_is_left_out():
  assert shipped() == sorted(CALLBACKS)


@pytest.mark.parametrize("name", sorted(CALLBACKS))
def test_it_works_on_a_source_or_is_refused(run, tmp_path, monkeypatch, name):
  check = CALLBACKS[name]
  more = [monkeypatch] if "monkeypatch" in inspect.signature(check).parameters else []
  check(run, tmp_path, *more)


@pytest.mark.parametrize(
  "arguments", [{"save_weights_only": True}, {"save_best_only": True}, {"save_freq": 2}]
)
def test_no_kind_of_model_checkpoint_leaves_out_rows(run, tmp_path, arguments):
  refused(lambda path: keras.callbacks.ModelCheckpoint(path, **arguments), "BestCheckpoint")(
    run, tmp_path
  )


def test_a_subclass_is_refused_by_its_own_name(run):
  class Mine(keras.callbacks.EarlyStopping):
    pass

  with pytest.raises(ValueError, match=r"^Mine\(restore_best_weights=True\) would put the best"):
    run.fit(Mine("loss", restore_best_weights=True))


def test_without_tables_all_of_a_model_is_its_dense_weights(tmp_path):
  inputs = keras.Input([3])
  model = tfps.Model(inputs, keras.layers.Dense(1)(inputs))
  model.compile("sgd", "mse")
  best = keras.callbacks.ModelCheckpoint(f"{tmp_path}/best", save_weights_only=True)
  stop = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
  model.fit(np.ones([4, 3]), np.ones([4, 1]), callbacks=[best, stop], verbose=0)
  assert list(tmp_path.iterdir())


def test_the_best_epoch_comes_back_with_rows_and_dense_weights(tmp_path):
  run = Run()
  states = States(run)
  best = tfps.callbacks.BestCheckpoint(f"{tmp_path}/best", "said", restore=True)
  stop = keras.callbacks.EarlyStopping("said", patience=2)
  run.fit(stop, states, best, losses=[3, 1, 2, 2], epochs=4)
  assert (best.best, best.best_epoch, len(states.states)) == (1, 1, 4)
  assert np.abs(states.states[1] - states.states[3]).max() > 1e-4
  np.testing.assert_array_equal(run.state(), states.states[1])
  np.testing.assert_array_equal(restored(f"{tmp_path}/best").state(), states.states[1])


@pytest.mark.parametrize(
  "monitor, mode, values, expected",
  [
    ("said", "auto", [2, 1, float("nan"), 3], 1),
    ("said", "max", [2, 1, float("nan"), 3], 3),
    ("val_auc", "auto", [2, 1, 3, 0], 2),
  ],
)
def test_which_epoch_is_the_best(tmp_path, monitor, mode, values, expected):
  best = tfps.callbacks.BestCheckpoint(str(tmp_path), monitor, mode=mode)
  saved = []
  best.manager = type("Manager", (), {"save": lambda self, calendar: saved.append(calendar)})()
  for epoch, value in enumerate(values):
    best.on_moment(tfps.training.position.Position(epoch, 0, "day-0"))
    best.on_epoch_end(epoch, {monitor: value})
  assert best.best_epoch == expected and saved[-1]["epoch"] == expected


def test_what_is_not_in_the_logs_is_named(run, tmp_path):
  with pytest.raises(ValueError, match="compares 'val_auc', and the epoch has loss, val_loss"):
    run.fit(tfps.callbacks.BestCheckpoint(str(tmp_path), "val_auc"))


def test_two_managers_of_one_table_take_no_rows_from_each_others_increments(tmp_path):
  run = Run()
  run.fit(epochs=1)
  every = CheckpointManager(f"{tmp_path}/every", run.model, [run.table])
  other = CheckpointManager(f"{tmp_path}/other", run.model, [run.table])
  every.save({})
  run.fit(epochs=1)
  other.save({})  # The table hands it the rows that were touched.
  every.save({}, incremental=True)
  expected = run.state()
  np.testing.assert_array_equal(restored(f"{tmp_path}/every").state(), expected)
