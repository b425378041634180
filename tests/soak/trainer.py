"""The job that `crashes.py` kills: a small model on days of made-up clicks, with checkpoints.

It leaves the file `<folder>/ending-day` there while a day ends, and `<folder>/done` once all is
trained. The hook that sees what is evicted takes its time, as one that writes it down somewhere
would.
"""

import argparse
import pathlib
import time

import tensorflow as tf
import tf_keras as keras

import tfps
from models.deepfm import DeepFM


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", type=pathlib.Path, help="where the checkpoints go")
  parser.add_argument("--days", type=int, default=40)
  flags = parser.parse_args()

  strategy = tfps.strategy()
  keras.utils.set_random_seed(1)
  tf.config.experimental.enable_op_determinism()
  source = tfps.data.ClickStream(
    days=flags.days, examples_per_day=3000, batch_size=256, batches_per_ticket=3
  )
  ending = flags.folder / "ending-day"
  ending.unlink(missing_ok=True)

  def slowly(rows):
    del rows
    ending.touch()
    time.sleep(0.02)

  with strategy.scope():
    accessor = tfps.CtrAccessor(create_threshold=1, delete_threshold=0.15)
    table = tfps.FeasignTable("ctr", mf_dim=4, accessor=accessor)
    model = DeepFM(table, list(source.slots), hidden=[16])
    model.compile("adam", "binary_crossentropy")
  model.fit(
    source,
    verbose=0,
    callbacks=[
      tfps.callbacks.EndOfDay(table, before_eviction=[slowly], chunk_rows=200),
      _DayEnded(ending),
      tfps.callbacks.Checkpoint(str(flags.folder / "checkpoints"), every_tickets=2),
    ],
  )
  (flags.folder / "done").touch()


class _DayEnded(keras.callbacks.Callback):
  def __init__(self, path):
    super().__init__()
    self._path = path

  def on_day_end(self, day, logs=None):
    del day, logs
    self._path.unlink(missing_ok=True)


if __name__ == "__main__":
  main()
