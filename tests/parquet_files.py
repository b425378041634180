"""What another source makes, as Parquet files."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from tfps.data.columns.source import ParquetSource
from tfps.data.file_days import Part


def as_parquet(source, folder, make=ParquetSource, **cutting):
  """A source of the same batches: the feasigns and labels that another one makes, in files of days.

  Args:
    source: the other one, of x = {slot: int64 [n] or [n, k]} and y [n, 1].
    folder: for the files; what is there already is left as it is.
    make: the class.
    **cutting: batch_size and batches_per_ticket, those of `source`.
  """
  calendar = {}
  for day in source.days():
    path = os.path.join(folder, f"{day.name}.parquet")
    calendar[day.name] = [Part(path)]
    if not os.path.exists(path):
      batches = [batch for ticket in source.tickets(day) for batch in source.open(ticket)]
      columns = {slot: np.concatenate([x[slot] for x, _ in batches]) for slot in batches[0][0]}
      columns = {slot: _column(values) for slot, values in columns.items()}
      columns["click"] = pa.array(np.concatenate([y[:, 0] for _, y in batches]))
      rows = cutting["batch_size"] * cutting["batches_per_ticket"]
      pq.write_table(pa.table(columns), f"{path}.new", row_group_size=rows)
      os.rename(f"{path}.new", path)
  slots = list(source.element_spec[0])

  def parse(columns):
    return {slot: columns[slot] for slot in slots}, columns["click"][:, tf.newaxis]

  made = make(calendar, parse, **cutting)
  made.raw_inputs = source.raw_inputs
  return made


def _column(values):
  if values.ndim == 1:
    return pa.array(values)
  return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
