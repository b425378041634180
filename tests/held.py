"""Clicks whose tickets wait: a run stays in its middle for as long as a test wants."""

import pathlib

import tensorflow as tf

import tfps
from tests import parquet_files
from tfps.data.columns.source import ParquetSource

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = """
from tests import held
from tfps.cli import config as config_lib

quickstart = config_lib.load_module({quickstart!r})

def get_config():
  config = quickstart.get_config()
  config.model.file = {model!r}
  return config

def source(config):
  clicks = held.{make}(quickstart.source(config), config, {folder!r})
  clicks.hold = lambda sequence: held.wait_while({path!r}, sequence >= {first})
  return clicks
"""


class Held(tfps.data.Source):
  """Its tickets call `hold` with their number in the calendar before their batches are trained."""

  def hold(self, sequence):
    raise NotImplementedError

  def reading(self, ticket):
    reading = super().reading(ticket)

    def held(x, y):
      # Added to the labels, for otherwise it would be left out.
      return x, y + tf.cast(self.hold(ticket.sequence), y.dtype)

    return reading._replace(batches=reading.batches.map(held))


class Clicks(Held, tfps.data.ClickStream):
  """The simulator."""


class Columns(Held, ParquetSource):
  """The same from Parquet files."""


def clicks(source, config, folder):
  """The config's source as it is, but held."""
  del config, folder
  source.__class__ = Clicks
  return source


def columns(source, config, folder):
  """The config's source as Parquet files in the folder."""
  return parquet_files.as_parquet(
    source,
    folder,
    Columns,
    batch_size=config.batch_size,
    batches_per_ticket=config.batches_per_ticket,
  )


def wait_while(path, condition):
  """In a graph: waits as long as the file is there where `condition` holds; 0."""

  def look(looks):
    # The path depends on `looks`, or TensorFlow would look once for all.
    same = tf.strings.regex_replace(tf.strings.as_string(looks), "^.*$", str(path))
    return tf.size(tf.io.matching_files(same)) > 0

  looks = tf.while_loop(
    lambda looks: tf.logical_and(condition, look(looks)), lambda looks: [looks + 1], [0]
  )
  return tf.minimum(looks[0], 0)


def config_file(folder, path, first, make="clicks"):
  """Quickstart's config, whose tickets from number `first` on wait while `path` is there.

  Its source is made by `clicks` or `columns`.
  """
  settings = dict(
    quickstart=str(ROOT / "configs" / "quickstart.py"), model=str(ROOT / "models" / "deepfm.py"),
    path=str(path), first=first, make=make, folder=str(folder),
  )  # fmt: skip
  (folder / "configs").mkdir()
  (folder / "configs" / "run.py").write_text(CONFIG.format(**settings))
  return folder / "configs" / "run.py"
