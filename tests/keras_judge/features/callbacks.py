"""Every callback that Keras ships."""

import csv
import http.server
import inspect
import json
import os
import threading

import numpy as np
import tf_keras as keras

from tests.keras_judge import data
from tests.keras_judge.feature import Features
from tests.keras_judge.models import compiled, wide

FEATURES = Features("callbacks")
callbacks = keras.callbacks
# What others are made of.
BASES = {"Callback", "CallbackList"}


def shipped():
  """The callbacks that Keras has."""
  return {name for name in dir(callbacks) if inspect.isclass(getattr(callbacks, name))} - BASES


@FEATURES.add(
  "CSVLogger",
  "History",
  "LambdaCallback",
  "LearningRateScheduler",
  "TerminateOnNaN",
  "EarlyStopping",
  cluster=True,
)
def in_one_fit(way):
  folder = way.folder()
  told = []
  model = compiled(way, keras.optimizers.SGD(0.1), metrics=["mae"])
  way.fit(
    model,
    data.dense(),
    data.validation(),
    epochs=5,
    callbacks=[
      callbacks.CSVLogger(f"{folder}/log.csv"),
      callbacks.History(),
      callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: told.append(epoch),
        on_epoch_end=lambda epoch, logs: told.append(sorted(logs)),
        on_train_end=lambda logs: told.append(sorted(logs)),
      ),
      callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5 if epoch else rate),
      callbacks.TerminateOnNaN(),
      callbacks.EarlyStopping("val_mae", min_delta=10, patience=2),
    ],
  )
  with open(f"{folder}/log.csv", encoding="utf-8") as log:
    rows = list(csv.DictReader(log))
  way.see("CSV columns", list(rows[0]))
  way.see("CSV", [[float(value) for value in row.values()] for row in rows])
  way.see("told", json.dumps(told))
  way.see_model(model)


@FEATURES.add("BaseLogger", note="Keras 2 itself ends in KeyError: 'metrics'")
def base_logger(way):
  try:
    way.fit(compiled(way), data.dense(), callbacks=[callbacks.BaseLogger()])
  except KeyError as error:
    way.see("error", str(error))


@FEATURES.add("ReduceLROnPlateau")
def reduce_lr(way):
  model = compiled(way, keras.optimizers.SGD(0.1))
  callback = callbacks.ReduceLROnPlateau("val_loss", min_delta=10, patience=1, factor=0.5)
  way.fit(model, data.dense(), data.validation(), epochs=4, callbacks=[callback])
  way.see_model(model)


@FEATURES.add("ProgbarLogger")
def progbar(way):
  way.batches_per_ticket = 1
  model = compiled(way)
  fit = lambda: way.fit(
    model, data.dense(), verbose=2, callbacks=[callbacks.ProgbarLogger("steps")]
  )
  way.see("printed", way.printed(fit).split("\r")[-1])


@FEATURES.add("TensorBoard")
def tensorboard(way):
  import tensorflow as tf

  folder = way.folder()
  model = compiled(way, metrics=["mae"])
  callback = callbacks.TensorBoard(folder, write_graph=False)
  way.fit(model, data.dense(), data.validation(), epochs=2, callbacks=[callback])
  found = {}
  for part in ("train", "validation"):
    for name in os.listdir(f"{folder}/{part}"):
      for record in tf.data.TFRecordDataset(f"{folder}/{part}/{name}").as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
          if "_vs_iterations" not in value.tag and value.tag != "keras":
            found[f"{part} {value.tag} {event.step}"] = tf.make_ndarray(value.tensor)
  way.see("events", found)


@FEATURES.add(
  "TerminateOnNaN: a loss that is not finite",
  only="epochs",
  note="the step changes no weight, and the history leaves it out",
)
def terminate(way):
  way.batches_per_ticket = 1
  x = data.floats(4)
  x[20] = np.nan
  model = compiled(way, metrics=["mae"])
  way.fit(model, data.Data(x, data.clicks()), epochs=3, callbacks=[callbacks.TerminateOnNaN()])


@FEATURES.add("EarlyStopping(restore_best_weights=True)")
def early_stopping_best(way):
  model = compiled(way, keras.optimizers.SGD(0.3))
  callback = callbacks.EarlyStopping("val_loss", mode="max", patience=2, restore_best_weights=True)
  way.fit(model, data.dense(), data.validation(), epochs=5, callbacks=[callback])
  way.see_model(model)


@FEATURES.add(
  "EarlyStopping(restore_best_weights=True) with a table",
  refused=r"ValueError: EarlyStopping\(restore_best_weights=True\) would put .*BestCheckpoint",
)
def early_stopping_best_rows(way):
  model = wide(keras.optimizers.SGD(0.3))
  callback = callbacks.EarlyStopping("val_loss", mode="max", patience=2, restore_best_weights=True)
  way.fit(model, data.rows(), data.rows(), epochs=5, callbacks=[callback])


@FEATURES.add("ModelCheckpoint(save_weights_only=True)")
def model_checkpoint(way):
  folder = way.folder()
  model = compiled(way)
  callback = callbacks.ModelCheckpoint(
    f"{folder}/{{epoch}}.weights.h5", save_weights_only=True, save_best_only=True
  )
  way.fit(model, data.dense(), data.validation(), epochs=3, callbacks=[callback])
  way.see("files", sorted(os.listdir(folder)))
  model.load_weights(f"{folder}/1.weights.h5")
  way.see_model(model)


@FEATURES.add(
  "ModelCheckpoint(save_weights_only=True) with a table",
  refused="ValueError: ModelCheckpoint would save the model without the rows .*Checkpoint",
)
def model_checkpoint_rows(way):
  callback = callbacks.ModelCheckpoint(f"{way.folder()}/{{epoch}}.h5", save_weights_only=True)
  way.fit(wide(), data.rows(), callbacks=[callback])


@FEATURES.add("ModelCheckpoint")
def model_checkpoint_whole(way):
  folder = way.folder()
  callback = callbacks.ModelCheckpoint(f"{folder}/{{epoch}}.keras")
  way.fit(compiled(way), data.dense(), callbacks=[callback])
  way.see("files", sorted(os.listdir(folder)))


@FEATURES.add(
  "BackupAndRestore", refused="ValueError: BackupAndRestore does not keep where .*Checkpoint"
)
def backup_and_restore(way):
  folder = way.folder()

  class Interrupt(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
      if epoch == 1:
        raise KeyError("interrupted")

  def fit(*more):
    model = compiled(way)
    backup = callbacks.BackupAndRestore(folder)
    try:
      way.fit(model, data.dense(), epochs=4, callbacks=[backup, *more])
    except KeyError:
      return
    way.see_model(model)

  fit(Interrupt())
  fit()


@FEATURES.add(
  "BackupAndRestore with a table",
  refused="ValueError: BackupAndRestore would go on .*Checkpoint",
)
def backup_rows(way):
  way.fit(wide(), data.rows(), callbacks=[callbacks.BackupAndRestore(way.folder())])


@FEATURES.add("SidecarEvaluatorModelExport")
def sidecar(way):
  folder = way.folder()
  callback = callbacks.SidecarEvaluatorModelExport(folder, f"{folder}/checkpoints")
  way.fit(compiled(way), data.dense(), callbacks=[callback])


@FEATURES.add("RemoteMonitor")
def remote_monitor(way):
  posted = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
      posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
      self.send_response(200)
      self.end_headers()

    def log_message(self, *_):
      pass

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  root = f"http://127.0.0.1:{server.server_port}"
  callback = callbacks.RemoteMonitor(root, send_as_json=True)
  with server:
    way.fit(compiled(way), data.dense(), data.validation(), epochs=2, callbacks=[callback])
    server.shutdown()
  way.see("posted", posted)


@FEATURES.add("own callback that sees get_weights in each epoch", cluster=True)
def own_callback(way):
  class Watches(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
      way.see("kernel", self.model.get_weights()[0])
      logs["mine"] = 3.0
      if epoch == 1:
        self.model.stop_training = True

  way.fit(compiled(way), data.dense(), data.validation(), epochs=4, callbacks=[Watches()])
