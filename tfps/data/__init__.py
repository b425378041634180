"""Input: sources that the chief cuts into tickets and workers open by range."""

from tfps.data.bad_records import reject
from tfps.data.criteo import criteo
from tfps.data.down_sampling import DownSampling
from tfps.data.files import source
from tfps.data.iceberg_tables import iceberg
from tfps.data.lakes import delta
from tfps.data.mixed import mix
from tfps.data.partitions import partitions
from tfps.data.ratings import movielens, movietweetings
from tfps.data.raw_inputs import RawInputs
from tfps.data.samples import parse_samples
from tfps.data.simulator import ClickStream
from tfps.data.source import Source
from tfps.data.streaming.folder import Folder
from tfps.data.streaming.kafka import Topic
from tfps.data.streaming.source import stream
from tfps.data.ticket import Day, Ticket
from tfps.errors import BadRecordError

# `source`, `criteo` and `partitions` are the functions here: they win over the modules of their
# names, which importing binds first.
__all__ = [
  "BadRecordError",
  "ClickStream",
  "Day",
  "DownSampling",
  "Folder",
  "RawInputs",
  "Source",
  "Ticket",
  "Topic",
  "criteo",
  "delta",
  "iceberg",
  "mix",
  "movielens",
  "movietweetings",
  "parse_samples",
  "partitions",
  "reject",
  "source",
  "stream",
]
