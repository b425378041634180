"""What a record becomes: exactly what it says, whatever stands beside it, or bad for a reason."""

import collections
import itertools
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import join_logs
from tfps.join import records as records_lib
from tfps.join import schema
from tfps.join import settings as settings_lib
from tfps.join.lines import Records
from tfps.join.records import Decoder
from tfps.join.schema import Schema

TIME = join_logs.BEGIN
SLOTS = {"text": "string", "whole": "int", "number": "float", "tags": "string"}
# Values as JSON, each as a field may have it, and some that it may not.
IDS = ["5", '"5"', "18446744073709551615", "18446744073709551614", '"2001-01-31"', "7.0", '"é"']
IDS += ["9007199254740993.0", "[1]", "{}", "null", "1.5", "true", "NaN", '"\\ud83d\\ude00"', "-0"]
TIMES = [f"{TIME}", f"{TIME}.25", '"2026-01-31T12:00:00Z"', '"2026-01-31 12:00"', '"2026-01-31"']
TIMES += ['"2026-01-31T12:00:00.123456789+02:00"', '"yesterday"', '"0001-01-01"', "-5", "1e300"]
TIMES += ["null", "[1]", '""', "true"]
VALUES = [*IDS, *TIMES, '["a","b"]', '["2001-01-31 00:00:00"]', "[]", "[null,1]", "[1,2.5]"]
VALUES += [
  "[[1]]",
  '[{"a":1}]',
  "1e39",
  "0.1",
  '"0.1"',
  '"-12"',
  "[true,false]",
  "99999999999999999999",
]
VALUES += ["99999999999999999999", '{"inner":"a"}', '"\\ud800"', "Infinity"]
VALUES += ["9223372036854775808", "-9223372036854775809"]


@st.composite
def lines(draw):
  pairs = [("request_id", draw(st.sampled_from(IDS))), ("item_id", draw(st.sampled_from(IDS)))]
  pairs.append(("time", draw(st.sampled_from(TIMES))))
  for name in draw(st.lists(st.sampled_from([*SLOTS, "unused"]), max_size=4)):  # some of them twice
    pairs.append((name, draw(st.sampled_from(VALUES))))
  if draw(st.integers(0, 9)) == 0:
    pairs.append(("nested", f'{{"text": {draw(st.sampled_from(VALUES))}}}'))
  line = "{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}"
  odd = ["", " ", "\ufeff", "[1]", "{", "}", line + line, line.replace(",", ",\r"), '{"\x00":1}']
  line = draw(st.sampled_from(odd)) if draw(st.integers(0, 9)) == 0 else line
  return (
    draw(st.sampled_from(["", "\ufeff", " "])) + line + draw(st.sampled_from(["", "\r", "\t "]))
  )


def plain():
  return join_logs.config("", slots=SLOTS, bad_records="skip")


def decode(decoder, data, log="features"):
  """[(line, what it became)] and the counts of bad records."""
  decoded = getattr(decoder, log)(Records(data, lambda number: f"line {number}"))
  batch = decoded.batch
  rows = batch.entries.to_pylist() if log == "features" else [row.tobytes() for row in batch]
  return list(zip(decoded.numbers.tolist(), rows)), dict(decoder.bad)


def decoder(config=None):
  config = config or plain()
  return Decoder(config, settings_lib.of_config(config), quiet=True)


@settings(max_examples=100, deadline=None)
@given(st.lists(lines(), min_size=1, max_size=8), st.data())
def test_a_record_becomes_the_same_in_any_company(made, data):
  """Alone, with others, in any order, after others, and read one by one."""
  data_of = [line.encode("utf-8", "surrogatepass") for line in made]
  alone = {}
  bad = collections.Counter()
  for number, line in enumerate(data_of):
    rows, counts = decode(decoder(), line + b"\n")
    bad += counts
    alone[number] = [row for _, row in rows]
  order = data.draw(st.permutations(range(len(made))))
  shared = decoder()
  for _repeated in range(2):
    rows, counts = decode(shared, b"\n".join(data_of[i] for i in order) + b"\n")
    assert {order[n]: row for n, row in rows} == {n: row[0] for n, row in alone.items() if row}
  assert counts == {reason: 2 * count for reason, count in bad.items()}
  one_by_one = decoder()
  one_by_one._readers = {"features 4": _Slow(records_lib.LineReader(frozenset()), SLOTS)}
  rows, counts = decode(one_by_one, b"\n".join(data_of) + b"\n")
  assert dict(rows) == {n: row[0] for n, row in alone.items() if row} and counts == bad


class _Slow(records_lib.LineReader):
  """Reads all lines one by one."""

  def __init__(self, _, slots):
    super().__init__(frozenset({*slots, "request_id", "item_id", "time"}))

  def _table(self, lines, count):
    raise pa.ArrowInvalid("not here")


def one(value, field="text", **fields):
  """What one feature record becomes, {feature: value}; None where it is bad."""
  record = f'{{"request_id": "r", "item_id": "i", "time": {TIME}, "{field}": {value}}}'
  config = join_logs.config("", slots=SLOTS, bad_records="skip", **fields)
  return sample(decoder(config), record)


def sample(made, record):
  rows, _ = decode(made, record.encode() + b"\n")
  return _parse(rows[0][1]) if rows else None


def _parse(entries):
  from tfps.join import example

  _, row = join_logs.parse(example.examples([pa.array([entries], pa.binary())], 1)[0].as_py())
  return row


@pytest.mark.parametrize(
  "field, value, becomes",
  [
    ("text", "18446744073709551615", "18446744073709551615"),
    ("text", '"2001-01-31"', "2001-01-31"),
    ("text", "12.0", "12"),
    ("text", "1.5", "1.5"),
    ("text", "true", "true"),
    ("whole", "18446744073709551614", -2),
    ("whole", '"-12"', -12),
    ("whole", "3.0", 3),
    ("number", "16777217", 16777216.0),
    ("number", '"0.5"', 0.5),
    ("number", "NaN", None),
    ("text", "[null]", None),
    ("tags", '["a", 5]', ["a", "5"]),
  ],
)
def test_values(field, value, becomes):
  found = one(value, field)
  assert (found["tags"] if field == "tags" else found.get(field)) == becomes


@pytest.mark.parametrize(
  "reason, sentence, record",
  [
    ("json", "it is no JSON object", '{"request_id": 1,}'),
    ("json", "it is no JSON object", '"a"'),
    ("doubled", "the field 'time' is there twice", '{"time": 1, "time": 2}'),
    ("doubled", "the field 'text' is there twice", {"text": "a", "more": {"text": "b"}}),
    ("id", "'request_id' is [1], no text or whole number", {"request_id": [1]}),
    ("id", "a record has no field 'item_id'", {"item_id": None}),
    ("id", "'item_id' is 1e+300, no whole number", {"item_id": 1e300}),
    ("time", "'time' is 'soon', no time", {"time": "soon"}),
    ("time", "a time before 1970 or in the future", {"time": "0001-01-01"}),
    ("time", "'time' is 9780000000, a time before 1970 or in the future", {"time": 9780000000}),
    ("feature", "'whole' is 1.5, no whole number", {"whole": 1.5}),
    ("feature", "but config.slots.number says 'float'", {"number": "many"}),
    ("feature", "no finite number of 32 bits", {"number": 1e39}),
    ("feature", "no whole number of 64 bits", {"whole": 2**64}),
  ],
)
def test_a_bad_record_stops_it_or_is_counted_and_named(reason, sentence, record, capsys):
  good = {"request_id": "r", "item_id": "i", "time": TIME}
  line = record if isinstance(record, str) else json.dumps({**good, **record})
  data = "\n".join([json.dumps(good), line, json.dumps(good)]).encode() + b"\n"
  config = plain()
  config.bad_records = "stop"
  with pytest.raises(records_lib.BadRecord) as error:
    decode(Decoder(config, settings_lib.of_config(config)), data)
  told = str(error.value)
  assert told.startswith("line 1: ") and sentence in told and 'config.bad_records to "skip"' in told
  skipping = Decoder(plain(), settings_lib.of_config(plain()))
  rows, bad = decode(skipping, data)
  assert [number for number, _ in rows] == [0, 2] and bad == {reason: 1}
  assert f"left out ({reason}): line 1: " in capsys.readouterr().err


def test_the_value_of_an_action_is_read_where_its_label_has_one():
  good = {"request_id": "r", "item_id": "i", "time": TIME}
  rows = [{"action": kind, "value": value} for kind in ("click", "dwell", "share")
          for value in ("much", "1.5", [1], None, 2**70)]  # fmt: skip
  rows += [{"action": ["click"]}, {"action": None}]
  made = decoder()
  decoded = made.actions(
    Records(b"".join(json.dumps({**good, **row}).encode() + b"\n" for row in rows), str)
  )
  assert made.bad == {"value": 2, "action": 1} and made.unknown == 6
  assert decoded.batch["value"].tolist() == [0] * 5 + [1.5, 0, 2.0**70]
  assert len(decoded.times) == 14


def test_parquet_as_json():
  """The same values in columns of many types."""
  ids = pa.array([2**64 - 1, 2**64 - 2, None], pa.uint64())
  texts = pa.array(["a", "b", "a"]).dictionary_encode()
  moments = pa.array([TIME * 10**9 + 1_999_999] * 3, pa.timestamp("ns"))
  numbers = pa.array([1, None, 3], pa.int64())
  wholes = pa.array([[1.0], [2.5], []], pa.list_(pa.float64()))
  inner = pa.StructArray.from_arrays([texts], ["text"])
  names = ["request_id", "item_id", "time", "number", "whole", "inner"]
  table = pa.table([ids, texts, moments, numbers, wholes, inner], names)
  made = decoder()
  rows, bad = decode(made, table)
  assert bad == {"id": 1, "feature": 1} and [number for number, _ in rows] == [0]
  line = (
    f'{{"request_id": {2**64 - 1}, "item_id": "a", "time": {TIME}.001, "number": 1, "whole": 1, '
  )
  rows_of_line, _ = decode(decoder(), (line + '"text": "a"}\n').encode())
  assert rows_of_line == rows


def test_types_of_the_first_file_are_those_of_its_values():
  """As they are where Arrow cannot read the file because one of its lines is no record."""
  for first, second in itertools.product([*VALUES, '{"b": 1.5}', "2.0", "[1]", "[NaN]"], repeat=2):
    file = f'{{"a": {first}, "b": 1}}\r\n{{"a": {second}, "b": 1}}\r\n'.encode()
    types = schema._of_lines(file)
    assert list(types.items()) == list(schema._of_lines(file + b"no record\n").items()), file


def test_a_batch_without_bad_records_or_new_fields_does_not_look_for_its_place():
  """In a file that is as long as what was read of it."""
  config = join_logs.config("", slots={})
  config.state = ""
  made = Decoder(config, settings_lib.of_config(config), Schema(config, grows=True), quiet=True)
  line = f'{{"request_id": "r", "item_id": "i", "time": {TIME}, "a": "x"}}\n'.encode()
  made.schema.infer(line, "here")
  assert len(made.features(Records(line, pytest.fail)).times) == 1
