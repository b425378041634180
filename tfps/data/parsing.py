"""Parsing records that may be bad: each bad one is found, whatever the parse function does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfps import native
from tfps.data import bad_records, batching
from tfps.data.choosing import Examples, weighted

# From n records, as a rule string [n], to (x, y) or (x, y, weight).
Parse = Callable[[Any], tuple]

# TensorFlow's words about a record, and those that replace them: what differs from record to record
# comes after a colon.
_WORDS = {
  r"^Field (\d+) ": r"field \1 ",
  r"^Name: [^,]*, ": "",
  r"^Feature: (\S+) \(data type: \S+\) is required but could not be found": r"the feature '\1' is missing",  # noqa: E501
  r"^Key: ([^,]+?)[,.] +": r"the feature '\1' does not fit: ",
  r"^Could not parse example input, value: ": "it is no tf.Example: ",
  r"\.$": "",
}
_MOST_SAID = 300  # bytes: some errors quote all of a record
TEXTS = tf.TensorSpec([None], tf.string)  # Records as texts.


def attempt(function: Any, *inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Any]:
  """Runs a function whose error is a result like another.

  Args:
    function: a ConcreteFunction.
    *inputs: tensors, its arguments.

  Returns:
    (bool scalar: whether it ended without an error; string scalar: the error's message; what it
    returned, which is not to be used where it failed).
  """
  ok, message, flat = native.ops.tfps_attempt(
    inputs=[*inputs, *function.captured_inputs],
    f=function,
    Tout=[output.dtype for output in function.outputs],
  )
  if tf.executing_eagerly():
    # The tensors have their shapes, unless the function failed.
    flat = flat if ok else [_empty(output) for output in function.outputs]
  else:
    for tensor, output in zip(flat, function.outputs):
      tensor.set_shape(output.shape)
  values = tf.nest.pack_sequence_as(function.structured_outputs, flat, expand_composites=True)
  return ok, message, values


def _empty(output: tf.Tensor) -> tf.Tensor:
  """A tensor of the shape of a function's output, in which unknown sizes are 0."""
  return tf.zeros([size or 0 for size in output.shape] if output.shape.rank else [0], output.dtype)


class Parser:
  """Runs a parse function, finds the bad records, and refuses them or leaves them out.

  Args:
    parse: as in `tfps.data.source`, of what `records` says.
    on_bad_record: "fail" or "skip".
    check_labels: whether a label or weight that is not finite, or negative, makes its record bad.
    columns: names of the fields, for those that errors of tf.io.decode_csv know by number.
    records: the specs of n records: a string tensor [n], or a structure of tensors and
      RaggedTensors with n rows.
  """

  def __init__(
    self,
    parse: Parse,
    *,
    on_bad_record: str = "fail",
    check_labels: bool = True,
    columns: Sequence[str] = (),
    records: Any = TEXTS,
  ) -> None:
    self.parse = parse
    self._spec = records
    self._check_labels = check_labels
    self._columns = tuple(columns)
    self._skips = on_bad_record == "skip"
    self._weight = ""
    self._traced = None
    self._reasons: list[str] = []

  def with_parse(self, parse: Parse) -> Parser:
    """Returns a copy with another parse function."""
    on_bad_record = "skip" if self._skips else "fail"
    return Parser(
      parse,
      on_bad_record=on_bad_record,
      check_labels=self._check_labels,
      columns=self._columns,
      records=self._spec,
    )

  def weighted_by(self, feature: str) -> Parser:
    """Returns a copy that makes a feature of x the weight; see `choosing.weighted`."""
    made = self.with_parse(self.parse)
    made._weight = feature
    return made

  def __call__(self, records: Any, damaged: tf.Tensor, numbers: tf.Tensor) -> Examples:
    """Parses a ticket's records.

    Args:
      records: n records.
      damaged: bool [n]: those that could not even be read.
      numbers: int64 [n]: the number of each in the ticket.

    Returns:
      The `Examples` of the good records: the parse function's result for them, their numbers, and
      the `bad_records.Skipped` of the others.
    """
    count = batching.all_rows(records)
    if not self._skips:
      values, problems = self._checked(records)
      tf.debugging.Assert(
        tf.reduce_all(problems == 0),
        ["there are bad records among those of a ticket:", *self._reasons],
      )
      return Examples(self._with_row_for_each(values, count), numbers)
    ok, _, (values, problems) = self._attempt(records)

    def all_good() -> Examples:
      return Examples(values, numbers, bad_records.nothing_skipped())

    def some_bad() -> Examples:
      problems = self.problems(records, damaged)
      good = problems == ""
      kept = batching.gathered(records, tf.where(good)[:, 0])
      values, _ = self._checked(kept)
      bad = tf.logical_not(good)
      skipped = bad_records.summarise(tf.boolean_mask(problems, bad), tf.boolean_mask(numbers, bad))
      return Examples(values, tf.boolean_mask(numbers, good), skipped)

    is_clean = ok & tf.reduce_all(problems == 0) & tf.logical_not(tf.reduce_any(damaged))
    found = tf.cond(is_clean, all_good, some_bad)
    count = tf.size(found.numbers, tf.int64)
    return found._replace(values=self._with_row_for_each(found.values, count))

  def problems(self, records: Any, damaged: tf.Tensor) -> tf.Tensor:
    """String [n]: what is wrong with each record; empty where nothing is.

    Records for which the parse function raises an error are found by trying ever fewer at once.

    Args:
      records, damaged: as in `__call__`.
    """
    texts = tf.where(damaged, "the checksum of its bytes does not hold", "")
    there = tf.cast(tf.where(tf.logical_not(damaged))[:, 0], tf.int32)
    readable = batching.gathered(records, there)
    texts = tf.tensor_scatter_nd_update(texts, there[:, tf.newaxis], self._errors(readable))
    there = tf.cast(tf.where(texts == "")[:, 0], tf.int32)
    _, reasons = self._checked(batching.gathered(records, there))
    said = tf.gather(tf.constant(["", *self._reasons]), reasons)
    return tf.tensor_scatter_nd_update(texts, there[:, tf.newaxis], said)

  def _errors(self, records: Any) -> tf.Tensor:
    """String [n]: the error that the parse function raises for each record alone."""
    count = tf.cast(batching.all_rows(records), tf.int32)

    def step(
      begin: tf.Tensor, size: tf.Tensor, texts: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
      part = tf.minimum(size, count - begin)
      rows = batching.gathered(records, tf.range(begin, begin + part))
      ok, message, _ = self._attempt(rows)
      alone = part == 1
      update = lambda: tf.tensor_scatter_nd_update(texts, [[begin]], [self._in_words(message)])
      texts = tf.cond(alone & tf.logical_not(ok), update, lambda: texts)
      begin += tf.where(ok | alone, part, 0)
      return begin, tf.where(ok, 2 * size, tf.maximum(size // 2, 1)), texts

    _, _, texts = tf.while_loop(
      lambda begin, *_: begin < count,
      step,
      (tf.zeros([], tf.int32), tf.maximum(count, 1), tf.fill([count], "")),
      parallel_iterations=1,
    )
    return texts

  def _in_words(self, message: tf.Tensor) -> tf.Tensor:
    """Returns the message of a TensorFlow error without the parts about the graph."""
    text = tf.strings.regex_replace(message, r"(?s)(\{\{[^}]*\}\} ?|\s*\n.*)", "")
    # The record was tried alone, so that its number is always 0.
    text = tf.strings.regex_replace(text, r" in record \d+!?", "")
    for pattern, words in _WORDS.items():
      text = tf.strings.regex_replace(text, pattern, words)
    for i, name in enumerate(self._columns):
      rewrite = "field '" + name.replace("\\", r"\\") + "' "
      text = tf.strings.regex_replace(text, f"^field {i} ", rewrite)
    text = tf.strings.substr(text, 0, _MOST_SAID)
    return tf.where(text == "", "it cannot be parsed", text)

  def _attempt(self, records: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
    """`attempt` of `_checked`."""
    if self._traced is None:
      with tf.init_scope():
        self._traced = tf.function(self._checked).get_concrete_function(self._spec)
    return attempt(self._traced, *tf.nest.flatten(records, expand_composites=True))

  def _checked(self, records: Any) -> tuple[Any, tf.Tensor]:
    """Returns parse's result, and int32 [n]: 0, or 1 + the index in `_reasons` of what is wrong."""
    with bad_records.Rejected() as rejected:
      values = self.parse(records)
    if not isinstance(values, tuple) or len(values) not in (2, 3):
      raise ValueError(
        f"parse returned {type(values).__name__}; it must return (x, y) or (x, y, weight)."
      )
    if any(value.shape.rank == 0 for value in tf.nest.flatten(values)):
      raise ValueError(
        "parse returned a scalar; each value it returns must have one row for each record."
      )
    if self._weight:
      values = weighted(values, self._weight)
    if self._check_labels:
      rejected += _label_problems(values)
    self._reasons = [reason for _, reason in rejected]
    problems = tf.zeros([batching.all_rows(records)], tf.int32)
    for i, (bad, _) in reversed(list(enumerate(rejected, 1))):
      problems = tf.where(bad, i, problems)
    return values, problems

  def _with_row_for_each(self, values: Any, count: tf.Tensor) -> Any:
    found = tf.stack([batching.rows(value) for value in tf.nest.flatten(values)])
    tf.debugging.Assert(
      tf.reduce_all(found == count),
      [
        "parse must return one row for each record; records, and the rows it returned:",
        count,
        found,
      ],
      summarize=100,
    )
    return values


def _label_problems(values: tuple) -> list[tuple[tf.Tensor, str]]:
  """[(bool [n], reason)] of the labels and weights that parse returned."""
  problems = []
  for what, group in zip(("label", "weight"), values[1:]):
    named = group.items() if isinstance(group, dict) else [("", group)]
    for name, value in named:
      title = f"the {what} '{name}'" if name else f"the {what}"
      for tensor in tf.nest.flatten(value):
        if isinstance(tensor, tf.Tensor) and tensor.dtype.is_floating:
          finite = tf.math.is_finite(tensor)
          problems.append((_any_of_row(~finite), f"{title} is no finite number"))
        if isinstance(tensor, tf.Tensor) and (tensor.dtype.is_floating or tensor.dtype.is_integer):
          problems.append((_any_of_row(tensor < 0), f"{title} is negative"))
  return problems


def _any_of_row(bad: tf.Tensor) -> tf.Tensor:
  return tf.reduce_any(bad, axis=list(range(1, bad.shape.rank)))
