"""A job for `pushes.Job` with bad data: every ticket has as many records of each kind.

Every worker says on stderr when it begins a ticket. The chief leaves `<folder>/trained.json` once
`<folder>/stop` is there.
"""

import argparse
import json
import pathlib

import numpy as np
import tensorflow as tf

import tfps
from models.deepfm import DeepFM
from tests.soak.push_trainer import StopAtFile, Told
from tfps.data.file_days import Part
from tfps.data.file_source import FileSource

BATCH, BATCHES_PER_TICKET, TICKETS = 16, 20, 40
KINDS = 8  # of which one has a label that is no number, and one has none
EACH = BATCH * BATCHES_PER_TICKET // KINDS
BAD = {3: "no", 5: ""}


class ToldFile(Told, FileSource):
  pass


def parse(lines):
  click, user = tf.io.decode_csv(lines, [tf.constant([], tf.float32), [""]])
  return {"user": tfps.feasign("user", user)}, click[:, tf.newaxis]


def write(path):
  lines = [f"{BAD.get(i % KINDS, i % 2)},u{i % KINDS}\n" for i in range(KINDS * EACH * TICKETS)]
  path.write_text("".join(lines))


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--consistency", default="async")
  flags = parser.parse_args()
  strategy = tfps.strategy()
  source = ToldFile(
    {"all": [Part(str(flags.folder / "data"))]}, parse, columns=("click", "user"), batch_size=BATCH,
    batches_per_ticket=BATCHES_PER_TICKET, on_bad_record="skip", max_bad_records=0,
  )  # fmt: skip
  with strategy.scope():
    accessor = tfps.CtrAccessor(create_threshold=1, decay_rate=1, delete_threshold=0)
    table = tfps.FeasignTable("ctr", mf_dim=2, accessor=accessor)
    model = DeepFM(table, ["user"], hidden=[4])
    model.compile("adam", "binary_crossentropy")
  stop, skipped = StopAtFile(flags.folder / "stop"), tfps.callbacks.SkippedRecords()
  communication = tfps.Communication(flags.consistency)
  model.fit(source, communication=communication, callbacks=[stop, skipped], epochs=10**6, verbose=0)
  users = tfps.feasign("user", [f"u{i}" for i in range(KINDS)])
  found = table.lookup(users)
  shows = np.where(found["found"], found["statistics"][:, 0], 0).tolist()
  trained = {"tickets": stop.tickets, "shows": shows, "skipped": skipped.counts}
  (flags.folder / "trained.json").write_text(json.dumps(trained))


if __name__ == "__main__":
  main()
