"""The job in which `faults.py` kills processes: days of made-up clicks, checkpoints and exports.

The chief writes a line to `<folder>/progress` for each finished ticket, and ends after the first
day at whose end the file `<folder>/stop` is there, or after `--days`. That day's rows, before it
ages them, go to `<folder>/before-last-day-ends`. Then it scores the day that would come next, and
leaves `<folder>/trained.json`. While a day ends, the file `<folder>/ending-day` is there.
"""

import argparse
import json
import os
import pathlib
import time

import tf_keras as keras

import tfps
from models.deepfm import DeepFM
from tfps.checkpoint import CheckpointManager
from tfps.learning.metrics import ClickScores

DAYS = 2000  # more than it ever gets to
EVERY_TICKETS = 8  # a checkpoint


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", type=pathlib.Path, help="where everything goes")
  parser.add_argument("--days", type=int, default=DAYS, help="train so many at most")
  parser.add_argument("--day-examples", type=int, default=20_000)
  parser.add_argument("--base-days", type=int, default=4, help="a base every so many")
  parser.add_argument("--pause", type=float, default=0, help="seconds after each ticket")
  flags = parser.parse_args()

  strategy = tfps.strategy()
  keras.utils.set_random_seed(1)
  source = tfps.data.ClickStream(
    days=DAYS, examples_per_day=flags.day_examples, batch_size=128, batches_per_ticket=4
  )
  with strategy.scope():
    accessor = tfps.CtrAccessor(create_threshold=2, delete_threshold=0.153)
    table = tfps.FeasignTable("ctr", mf_dim=4, accessor=accessor)
    model = DeepFM(table, list(source.slots), hidden=[16])
    model.compile("adam", "binary_crossentropy")
  base = tfps.callbacks.BaseExport(
    model, str(flags.folder / "export"), source.raw_inputs, every_days=flags.base_days
  )
  progress = Progress(flags, table)
  model.fit(
    source,
    verbose=0,
    callbacks=[
      tfps.callbacks.EndOfDay(base_export=[base]),
      tfps.callbacks.DeltaExport(base.exporter, every_examples=flags.day_examples * 2 // 5),
      progress,
      tfps.callbacks.EndOfDay(table),
      tfps.callbacks.Checkpoint(
        str(flags.folder / "checkpoints"), every_tickets=EVERY_TICKETS, exporter=base.exporter
      ),
    ],
  )
  scores = ClickScores()
  for scored in model.score(source.day(progress.days)):
    scores.update(scored["y"], scored["y_pred"])
  trained = {"days": progress.days, "auc": scores.auc}
  writing = flags.folder / "trained.writing"
  writing.write_text(json.dumps(trained))
  writing.rename(flags.folder / "trained.json")


class Progress(keras.callbacks.Callback):
  """Says how far the job is, and ends it at a day's end; listed before what ends the table's day.

  Attributes:
    days: how many have ended since the calendar began.
  """

  def __init__(self, flags, table):
    super().__init__()
    self._folder = flags.folder
    self._most_days = flags.days
    self._pause = flags.pause
    self._table = table
    self._ending = flags.folder / "ending-day"
    self._ending.unlink(missing_ok=True)
    self.days = 0

  def on_train_batch_end(self, batch, logs=None):
    del batch, logs
    with open(self._folder / "progress", "a") as file:
      file.write(f"{os.getpid()}\n")
    time.sleep(self._pause)

  def on_day_end(self, day, logs=None):
    del logs
    self._ending.touch()
    self.days = day.ordinal + 1
    if self.days >= self._most_days or (self._folder / "stop").exists():
      self.model.stop_training = True
      folder = str(self._folder / "before-last-day-ends")
      CheckpointManager(folder, self.model, [self._table], keep=1).save({})

  def on_moment(self, position):
    del position
    self._ending.unlink(missing_ok=True)


if __name__ == "__main__":
  main()
