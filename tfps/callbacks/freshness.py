"""Freshness: how old a stream's samples are when they are trained, and what a delta makes known of them."""

import dataclasses
import time

import tensorflow as tf
import tf_keras as keras


@dataclasses.dataclass
class Ages:
  """How long after its event each of some samples was trained, in seconds.

  Attributes:
    samples: how many.
    total: the sum.
    largest: the largest; 0 where there are none.
  """

  samples: int = 0
  total: float = 0.0
  largest: float = 0.0

  def add(self, times, now):
    """Counts samples with these `EventTimes` that are trained at `now`."""
    self.samples += times.samples
    self.total += times.samples * (now - times.mean)
    self.largest = max(self.largest, now - times.oldest)

  @property
  def mean(self):
    return self.total / self.samples if self.samples else 0.0


class Freshness(keras.callbacks.Callback):
  """Measures how old a stream's samples are when they are trained, and tells how the stream goes.

  Every so often it prints a line, and writes for TensorBoard, by training step: `stream/seconds_to_trained` and
  `stream/seconds_to_trained_max`, from a sample's event to when the ticket that holds it was finished, over the samples since
  the last time; `stream/samples`, `stream/late` and `stream/early`, all so far.

  Args:
    source: the `tfps.data.stream` that `fit` reads.
    every_seconds: how often; nothing is printed or written while there are no samples.
    log_dir: folder for TensorBoard's files; None for none.

  Attributes:
    ages: the `Ages` of all samples that were trained.

  Examples:
    >>> samples = tfps.data.stream("samples", lambda records: parse(records))
    >>> freshness = tfps.callbacks.Freshness(samples, every_seconds=10.0, log_dir="logs")
  """

  def __init__(self, source, *, every_seconds=60.0, log_dir=None):
    super().__init__()
    self.ages = Ages()
    self._source = source
    self._every_seconds = every_seconds
    self._log_dir = log_dir
    self._writer = None
    self._day = ""
    self._since, self._told_at, self._logs = Ages(), time.monotonic(), {}
    self._events = []  # `EventTimes` of what was trained since the last delta.

  def on_train_begin(self, logs=None):
    del logs
    self._told_at = time.monotonic()
    if self._log_dir is not None:
      self._writer = tf.summary.create_file_writer(self._log_dir)

  def on_day_begin(self, day):
    self._day = day.name

  def on_day_resume(self, day, records):
    del records
    self._day = day.name

  def on_ticket_end(self, ticket):
    times, now = self._source.reader.event_times(ticket), time.time()
    self.ages.add(times, now)
    self._since.add(times, now)
    self._events.append(times)

  def on_train_batch_end(self, batch, logs=None):
    del batch
    self._logs = logs or {}
    if time.monotonic() - self._told_at >= self._every_seconds:
      self._tell()

  def on_moment(self, position):
    if position.ended or time.monotonic() - self._told_at >= self._every_seconds:
      self._tell()

  def on_idle(self):
    if time.monotonic() - self._told_at >= self._every_seconds:
      self._tell()

  def on_train_end(self, logs=None):
    del logs
    self._tell()
    if self._writer is not None:
      self._writer.close()

  def take_events(self):
    """What a delta's manifest says of the samples that were trained since this was last called."""
    events, self._events = self._events, []
    if not events:
      return {}
    samples = sum(times.samples for times in events)
    return {
      "events": {
        "samples": samples,
        "oldest": min(times.oldest for times in events),
        "newest": max(times.newest for times in events),
        "mean": sum(times.samples * times.mean for times in events) / samples,
      }
    }

  def summary(self):
    """{name: number} of all that was trained, for the run's summary."""
    reader = self._source.reader
    return {
      "seconds_to_trained": self.ages.mean,
      "seconds_to_trained_max": self.ages.largest,
      "late": reader.late if reader else 0,
      "early": reader.early if reader else 0,
    }

  def _tell(self):
    since, seconds = self._since, time.monotonic() - self._told_at
    self._since, self._told_at = Ages(), time.monotonic()
    if not since.samples:
      return
    reader = self._source.reader
    metrics = "".join(f", {name} {float(value):.4f}" for name, value in self._logs.items())
    print(
      f"{time.strftime('%H:%M:%S')} {self._day}: {since.samples:,} samples, {since.samples / seconds:,.0f}/s, "
      f"{since.mean:.1f} s after their events (at most {since.largest:.1f} s){metrics}; so far {self.ages.samples:,}, "
      f"{reader.late:,} of them late",
      flush=True,
    )
    if self._writer is not None:
      step = int(self.model.optimizer.iterations.numpy())
      with self._writer.as_default():
        for name, value in {
          "seconds_to_trained": since.mean,
          "seconds_to_trained_max": since.largest,
          "samples": self.ages.samples,
          "late": reader.late,
          "early": reader.early,
        }.items():
          tf.summary.scalar(f"stream/{name}", value, step=step)
      self._writer.flush()
