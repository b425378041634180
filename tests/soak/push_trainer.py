"""The job whose workers `pushes.py` kills: it trains until the file `<folder>/stop` is there.

Every worker says on stderr when it begins a ticket. The chief keeps in `<folder>/progress` how many
tickets are finished and how many pushes came twice, and leaves a checkpoint and
`<folder>/trained.json`.
"""

import argparse
import json
import pathlib
import sys

import tensorflow as tf
import tf_keras as keras

import tfps
from models.deepfm import DeepFM

BATCHES_PER_TICKET = 20


class Told:
  """Of a source: its tickets say when they are read, where they are read."""

  def reading(self, ticket):
    tf.print("Ticket", ticket.sequence, "begins.", output_stream=sys.stderr)
    return super().reading(ticket)


class ToldClicks(Told, tfps.data.ClickStream):
  pass


class StopAtFile(keras.callbacks.Callback):
  """Ends the training when a file is there, and counts the tickets that were finished."""

  def __init__(self, path):
    super().__init__()
    self._path = path
    self.tickets = 0

  def on_train_batch_end(self, batch, logs=None):
    self.tickets += 1
    if self._path.exists():
      self.model.stop_training = True


class Progress(keras.callbacks.Callback):
  """Writes how many tickets are finished, and how many pushes to a table came twice."""

  def __init__(self, path, table):
    super().__init__()
    self._path, self._table = path, table
    self._tickets = 0

  def on_train_batch_end(self, batch, logs=None):
    self._tickets += 1
    repeated = int(self._table.statistics()["repeated_pushes"])
    written = self._path.with_suffix(".new")
    written.write_text(f"{self._tickets} {repeated}")
    written.replace(self._path)


def source(kind=tfps.data.ClickStream):
  return kind(
    days=200, examples_per_day=64 * BATCHES_PER_TICKET * 50, batch_size=64,
    batches_per_ticket=BATCHES_PER_TICKET,
  )  # fmt: skip


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", type=pathlib.Path, help="where the checkpoint goes")
  parser.add_argument("--consistency", default="async")
  flags = parser.parse_args()

  strategy = tfps.strategy()
  with strategy.scope():
    table = tfps.FeasignTable("ctr", mf_dim=4, accessor=tfps.CtrAccessor(create_threshold=1))
    model = DeepFM(table, list(tfps.data.ClickStream.slots), hidden=[16])
    model.compile("adam", "binary_crossentropy")
  # Dense weights are merged more than once a ticket, too.
  communication = tfps.Communication(flags.consistency, max_delay=4, dense_sync_every=5)
  stop = StopAtFile(flags.folder / "stop")
  saver = tfps.callbacks.Checkpoint(str(flags.folder / "checkpoints"), every_days=10**9)
  callbacks = [Progress(flags.folder / "progress", table), stop, saver]
  model.fit(source(ToldClicks), communication=communication, callbacks=callbacks, verbose=0)
  trained = {
    "tickets": stop.tickets,
    "iterations": int(model.optimizer.iterations),
    "repeated_pushes": table.statistics()["repeated_pushes"],
    "loss": float(model.metrics[0].result()),
  }
  (flags.folder / "trained.json").write_text(json.dumps(trained))


if __name__ == "__main__":
  main()
