"""The job of `load.py`: workers that pull and push as fast as they can, of ever new feasigns.

The chief prints a line of JSON about once a second, with what is finished by then, and one at the
end.
"""

import argparse
import json
import pathlib
import time

import numpy as np
import tensorflow as tf

import tfps
from tfps import native
from tfps.training.tickets import _OnWorkers

BATCHES = 10  # of a ticket


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", type=pathlib.Path, help="where stop ends it, and times.npy goes")
  parser.add_argument("--ids", type=int, default=4096, help="of a batch")
  parser.add_argument("--max-rows", type=int, default=1_000_000)
  flags = parser.parse_args()
  strategy = tfps.strategy()
  with strategy.scope():
    accessor = tfps.CtrAccessor(create_threshold=1)
    table = tfps.FeasignTable("load", accessor=accessor, max_rows=flags.max_rows)
  table.fix_assignment()
  runner = _OnWorkers(make_ticket(table, flags.ids), strategy)
  run(runner, table, flags)


def make_ticket(table, ids):
  """A tf.function of (number, finished_below): pulls and pushes BATCHES times.

  Returns float32 [BATCHES, 2], the seconds of each pull and push, and how many feasigns were
  pushed.
  """
  route = dict(slot_ends=[ids], slot_ids=[1], assignment=table.assignment)
  bags = dict(positions=None, row_splits=[tf.range(ids + 1, dtype=tf.int64)])

  @tf.function(input_signature=[tf.TensorSpec([], tf.int64)] * 2)
  def ticket(number, finished_below):
    def batch(i, times, pushed):
      keys, slots, positions = native.ops.tfps_route(
        ids=some_ids(ids, tf.stack([number, i])), num_servers=table.num_servers, **route
      )
      count = tf.add_n([tf.size(part, tf.int64) for part in keys])
      with tf.control_dependencies([*keys, *slots, positions]):
        began = tf.timestamp()
      with tf.control_dependencies([began]):
        replies = table.exchange(keys, table.no_messages(), table.row_width)
        rows = table.read_replies(replies, table.row_width)
      with tf.control_dependencies([rows]):
        pulled = tf.timestamp()
      messages = native.ops.tfps_make_push(
        keys=keys,
        slots=slots,
        pulled=replies,
        gradients=[0.1 * rows + 0.01],
        frozen=[False],
        show=tf.ones([ids]),
        click=tf.cast(tf.range(ids) % 4 == 0, tf.float32),
        scale=1.0,
        step=tf.stack([number, i, finished_below]),
        num_servers=table.num_servers,
        **bags | {"positions": [positions]},
      )
      with tf.control_dependencies([pulled, *messages]):
        begins = tf.timestamp()
      with tf.control_dependencies([begins]):
        answers = table.exchange([keys[0][:0]] * table.num_servers, messages, 2)
      with tf.control_dependencies(answers):
        took = tf.stack([pulled - began, tf.timestamp() - begins])
      return i + 1, times.write(tf.cast(i, tf.int32), tf.cast(took, tf.float32)), pushed + count

    times = tf.TensorArray(tf.float32, BATCHES, element_shape=[2])
    zero = tf.zeros([], tf.int64)
    _, times, pushed = tf.while_loop(lambda i, *_: i < BATCHES, batch, (zero, times, zero))
    return times.stack(), pushed

  return ticket


def some_ids(count, seed):
  """int64 [count]: half of them about Zipf(1) of a million, half ever new ones."""
  usual = tf.exp(tf.random.stateless_uniform([count // 2], seed) * np.float32(np.log(1e6)))
  new = tf.random.stateless_uniform([count - count // 2], seed, None, None, tf.int64)
  return tf.concat([tf.cast(usual, tf.int64), new], 0)


def run(runner, table, flags):
  number, running, times = 0, set(), []
  pushed, began, said = 0, time.monotonic(), 0.0
  stop = flags.folder / "stop"
  most = 2 * sum(
    1 for device in tf.config.list_logical_devices("CPU") if "job:worker" in device.name
  )
  while running or not stop.exists():
    while len(running) < most and not stop.exists():
      running.add(number)
      arguments = number, min(running)
      runner.start(number, tuple(tf.constant(value, tf.int64) for value in arguments))
      number += 1
    if running:
      for ticket, result, error in runner.wait():
        if error is not None:
          raise error
        seconds, count = result
        running.remove(ticket)
        times.append(seconds)
        pushed += int(count)
    if time.monotonic() - said > 1:
      said = time.monotonic()
      print(json.dumps({"seconds": said - began, "batches": BATCHES * len(times)}), flush=True)
  statistics = table.statistics()
  np.save(flags.folder / "times.npy", np.concatenate(times))
  found = {"pushed": pushed, "seconds": time.monotonic() - began, "statistics": statistics}
  (flags.folder / "load.json").write_text(json.dumps(found))


if __name__ == "__main__":
  main()
