"""Parquet files as sources: what each type becomes, how files are cut, and what is refused."""

import datetime
import decimal
import functools
import itertools
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests.test_data_files import write, write_tfrecord
from tfps.cluster import failures
from tfps.data import ticket as ticket_lib
from tfps.data.columns import source as columns_source

ROWS = 60
EPOCH = datetime.datetime(1970, 1, 1)


def source(path, parse=None, **settings):
  settings = {"batch_size": 8, "batches_per_ticket": 2} | settings
  return tfps.data.source(str(path), parse or everything, format="parquet", **settings)


def everything(columns):
  return dict(columns), tf.ones([tf.shape(tf.nest.flatten(dict(columns))[0])[0], 1])


def of(name):
  """A parse function that asks for one column alone."""
  return lambda columns: ({name: columns[name]}, tf.ones([batch_rows(columns[name]), 1]))


def batch_rows(values):
  value = tf.nest.flatten(values)[0]
  return value.nrows() if isinstance(value, tf.RaggedTensor) else tf.shape(value)[0]


def read(source, tickets=None):
  """{name: all values as Python's} of all records, each batch no larger than it may be."""
  found = {}
  for ticket in tickets or source.tickets():
    for x, y in source.open(ticket):
      assert len(y) <= source.batch_size
      for path, value in flat(x).items():
        value = value.to_list() if isinstance(value, tf.RaggedTensor) else value.numpy().tolist()
        found.setdefault(path, []).extend(value)
  return found


def flat(values, path=""):
  if not isinstance(values, dict):
    return {path: values}
  return {k: v for name, value in values.items() for k, v in flat(value, f"{path}.{name}").items()}


def random_value(kind, random):
  """A value of a type of Arrow's, sometimes null where Parquet can write that."""
  types = pa.types
  if random.random() < 0.15 and not (types.is_struct(kind) or types.is_fixed_size_list(kind)):
    return None
  if types.is_dictionary(kind):
    return random_value(kind.value_type, random) or "d"
  if types.is_map(kind):
    return [
      (f"k{i}", random_value(kind.item_type, random) or 0.0) for i in range(random.integers(3))
    ]
  if types.is_struct(kind):
    return {field.name: random_value(field.type, random) for field in kind}
  if types.is_fixed_size_list(kind):
    return [random_value(kind.value_type, random) for _ in range(kind.list_size)]
  if hasattr(kind, "value_type"):
    return [random_value(kind.value_type, random) for _ in range(random.integers(4))]
  if types.is_boolean(kind):
    return bool(random.integers(2))
  if types.is_unsigned_integer(kind):
    return int(random.integers(2**kind.bit_width, dtype=np.uint64, endpoint=False)
               if kind.bit_width < 64 else random.integers(2**64 - 1, dtype=np.uint64))  # fmt: skip
  if types.is_integer(kind):
    top = 2 ** (kind.bit_width - 1)
    return int(random.integers(-top, top - 1))
  if types.is_floating(kind):
    return float(np.float16(random.normal()))
  if types.is_decimal(kind):
    return decimal.Decimal(int(random.integers(-(10**6), 10**6))).scaleb(-2)
  moment = EPOCH + datetime.timedelta(seconds=int(random.integers(-(10**9), 2 * 10**9)))
  if types.is_timestamp(kind):
    return moment.replace(tzinfo=datetime.timezone.utc) if kind.tz else moment
  if types.is_date(kind):
    return moment.date()
  if types.is_time(kind):
    return moment.time()
  if types.is_duration(kind):
    return datetime.timedelta(milliseconds=int(random.integers(10**9)))
  if types.is_null(kind):
    return None
  text = "".join(random.choice(list("aé\n,\0z"), random.integers(40)))
  if types.is_fixed_size_binary(kind):
    return text.encode().ljust(4, b"-")[:4]
  return text if types.is_unicode(kind) or types.is_large_unicode(kind) else text.encode()


def meaning(kind, value):
  """What docs/inputs.md says that a value becomes; a null number is -7."""
  types = pa.types
  if types.is_dictionary(kind):
    kind = kind.value_type
  if types.is_struct(kind):
    value = value or {}
    return {field.name: meaning(field.type, value.get(field.name)) for field in kind}
  if types.is_map(kind):
    keys = [key.encode() for key, _ in value or ()]
    return {"key": keys, "value": [meaning(kind.item_type, one) for _, one in value or ()]}
  if types.is_fixed_size_list(kind):
    return [meaning(kind.value_type, one) for one in value or [None] * kind.list_size]
  if hasattr(kind, "value_type"):
    rows = [meaning(kind.value_type, one) for one in value or () if one is not None]
    if not types.is_struct(kind.value_type):
      return rows
    return {field.name: [row[field.name] for row in rows] for field in kind.value_type}
  if types.is_boolean(kind) or types.is_integer(kind):
    return -7 if value is None else int(np.uint64(value % 2**64).astype(np.int64))
  if types.is_floating(kind):
    return -7.0 if value is None else value
  if types.is_temporal(kind):
    return -7 if value is None else microseconds(kind, value)
  if value is None:
    return b""
  return value if isinstance(value, bytes) else str(value).encode()


def microseconds(kind, value):
  if pa.types.is_date(kind):
    return (value - EPOCH.date()).days
  if pa.types.is_time(kind):
    value = datetime.datetime.combine(EPOCH, value)
  if isinstance(value, datetime.datetime):
    value = value.replace(tzinfo=None) - EPOCH
  return round(value / datetime.timedelta(microseconds=1))


TEXTS = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()]
NUMBERS = [pa.bool_(), pa.int8(), pa.uint8(), pa.int32(), pa.int64(), pa.uint32(), pa.uint64()]
NUMBERS += [pa.float16(), pa.float32(), pa.float64()]
TIMES = [pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")] + [pa.timestamp("ms", "UTC")]
TIMES += [pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"), pa.duration("ms")]
ENTRY = pa.struct(
  [("value", pa.string()), ("weight", pa.float32()), ("parts", pa.list_(pa.int8()))]
)
NESTED = [
  pa.list_(pa.string()), pa.large_list(pa.int64()), pa.list_(pa.float32(), 3),
  pa.list_(pa.list_(pa.string())), pa.map_(pa.string(), pa.float64()), pa.list_(ENTRY), ENTRY,
  pa.list_(pa.dictionary(pa.int32(), pa.string())), pa.list_(pa.timestamp("ns")),
  pa.struct([("inner", pa.struct([("a", pa.int16())]))]), pa.list_(pa.string(), 2),
]  # fmt: skip
OTHERS = [pa.dictionary(pa.int32(), pa.string()), pa.decimal128(20, 2), pa.binary(4), pa.null()]
TYPES = [*TEXTS, *NUMBERS, *TIMES, *NESTED, *OTHERS]


def random_table(seed, rows=ROWS):
  random = np.random.default_rng(seed)
  columns = {}
  for i, kind in enumerate(TYPES):
    plain = pa.string() if kind == pa.string_view() else kind
    values = [random_value(plain, random) for _ in range(rows)]
    columns[f"c{i}"] = pa.array(values, plain).cast(kind)
  return pa.table(columns)


@pytest.mark.parametrize("seed", range(3))
def test_every_type_means_what_the_docs_say(tmp_path, seed):
  table = random_table(seed)
  settings = [
    dict(row_group_size=7),
    dict(row_group_size=16, use_dictionary=False, compression="zstd"),
    dict(row_group_size=1000, data_page_version="2.0", store_schema=False),
  ][seed]
  pq.write_table(table, tmp_path / "a.parquet", **settings)
  # What pyarrow reads back is the judge: without its own schema types differ.
  table = pq.read_table(tmp_path / "a.parquet")
  nulls = {path: -7 for path, kind in leaves(table.schema).items() if kind in ("int64", "float32")}
  made = source(tmp_path / "a.parquet", nulls=nulls)
  found = read(made)
  expected = {}
  for name in table.column_names:
    kind = table.schema.field(name).type
    rows = [meaning(kind, value) for value in pylist(table.column(name))]
    for path in flat(rows[0], f".{name}"):
      expected[path] = [flat(row, f".{name}")[path] for row in rows]
  assert found.keys() == expected.keys()
  wrong = {
    f"{path} {table.schema.field(path.split('.')[1]).type}": [
      pair for pair in zip(found[path], values) if pair[0] != pair[1]
    ][:3]
    for path, values in expected.items()
    if found[path] != values
  }
  assert wrong == {}


def pylist(column):
  """Python's values; of nanoseconds, whose class pandas has, microseconds, rounded to zero."""
  kind = column.type
  if pa.types.is_timestamp(kind):
    column = column.cast(pa.timestamp("us", kind.tz), safe=False)
  return column.to_pylist()


def leaves(schema):
  from tfps.data.columns import kinds

  found = kinds.leaves({field.name: kinds.kind_of(field.type) for field in schema})
  return {path: kind.base for path, kind in found.items()}


def test_what_has_no_meaning_is_refused_where_it_is_asked_for(tmp_path):
  twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
  pq.write_table(twice, tmp_path / "a.parquet")
  with pytest.raises(ValueError, match="column 'a', which is int64 and there twice"):
    source(tmp_path / "a.parquet", of("a"))


def samples(rows=200):
  """Samples as columns: texts, numbers, tags with weights, a label."""
  random = np.random.default_rng(5)
  tags = [[f"t{tag}" for tag in random.integers(0, 9, random.integers(4))] for _ in range(rows)]
  return {
    "user": [f"u{number}" for number in random.integers(0, 30, rows)],
    "item": random.integers(0, 50, rows).tolist(),
    "tags": tags,
    "weights": [random.integers(1, 4, len(row)).astype(float).tolist() for row in tags],
    "click": random.integers(0, 2, rows).astype(float).tolist(),
  }


def features(user, item, tags, weights, click):
  x = {"user": tfps.feasign("user", user), "item": tfps.feasign("item", item)}
  return x | {"tags": tfps.feasign("tags", tags), "weights": weights}, click


class Weighted(tfps.Model):
  def __init__(self):
    super().__init__()
    self.table = tfps.FeasignTable("test", mf_dim=2, accessor=tfps.CtrAccessor(create_threshold=1))
    self.embedding = tfps.Embedding(self.table, ["user", "item", "tags"])

  def call(self, x, training=None):
    output = self.embedding(x, {"tags": x["weights"]}, training=training)
    return tf.sigmoid(output.lr_logit + tf.reduce_sum(output.mf, axis=[1, 2])[:, tf.newaxis])


def test_the_same_samples_in_other_formats_train_the_same_to_the_last_bit(tmp_path):
  data = samples()
  entries = [
    [{"value": tag, "weight": weight} for tag, weight in zip(*row)]
    for row in zip(data["tags"], data["weights"])
  ]
  table = pa.table({"user": data["user"], "item": pa.array(data["item"], pa.int32())})
  table = table.append_column("click", pa.array(data["click"]))
  pairs = [[(one["value"], one["weight"]) for one in row] for row in entries]
  two = {
    "structs": pa.array(entries), "map": pa.array(pairs, pa.map_(pa.string(), pa.float64()))
  }  # fmt: skip
  for name, tags in two.items():
    with_tags = table.append_column("tags", tags)
    pq.write_table(with_tags, tmp_path / f"{name}.parquet", row_group_size=96)
  lines, examples = ["user,item,tags,weights,click"], []
  for user, item, tags, weights, click in zip(*data.values()):
    joined = ["|".join(map(str, values)) for values in (tags, weights)]
    lines.append(",".join([user, str(item), *joined, str(click)]))
    feature = {
      "user": tf.train.Feature(bytes_list=tf.train.BytesList(value=[user.encode()])),
      "item": tf.train.Feature(int64_list=tf.train.Int64List(value=[item])),
      "tags": tf.train.Feature(bytes_list=tf.train.BytesList(value=[t.encode() for t in tags])),
      "weights": tf.train.Feature(float_list=tf.train.FloatList(value=weights)),
      "click": tf.train.Feature(float_list=tf.train.FloatList(value=[click])),
    }
    examples.append(
      tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    )
  write(tmp_path / "a.csv", "\n".join(lines).encode())
  write_tfrecord(tmp_path / "a.tfrecord", examples)

  def parse_csv(columns):
    many = lambda name: tf.raw_ops.StringSplit(input=columns[name], delimiter="|", skip_empty=True)
    split = lambda name: tf.RaggedTensor.from_value_rowids(
      many(name).values, many(name).indices[:, 0], tf.size(columns[name], tf.int64)
    )
    item = tf.strings.to_number(columns["item"], tf.int64)
    weights = split("weights")
    weights = weights.with_values(tf.strings.to_number(weights.values))
    click = tf.strings.to_number(columns["click"])[:, tf.newaxis]
    return features(columns["user"], item, split("tags"), weights, click)

  def parse_examples(records):
    ragged = lambda dtype: tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
    return features(**tf.io.parse_example(records, {
      "user": tf.io.FixedLenFeature([], tf.string),
      "item": tf.io.FixedLenFeature([], tf.int64),
      "tags": ragged(tf.string),
      "weights": ragged(tf.float32),
      "click": tf.io.FixedLenFeature([1], tf.float32),
    }))  # fmt: skip

  def parse_columns(columns, names):
    tags, weights = (columns["tags"][name] for name in names)
    click = columns["click"][:, tf.newaxis]
    return features(columns["user"], columns["item"], tags, weights, click)

  settings = dict(batch_size=16, batches_per_ticket=4)
  paths = {form: str(tmp_path / f"a.{form}") for form in ("csv", "tfrecord")}
  sources = [
    tfps.data.source(paths["tfrecord"], parse_examples, format="tfrecord", **settings),
    tfps.data.source(paths["csv"], parse_csv, format="csv", header=True, **settings),
    *(
      source(tmp_path / f"{form}.parquet", functools.partial(parse_columns, names=pair), **settings)
      for form, pair in (("structs", ("value", "weight")), ("map", ("key", "value")))
    ),
  ]  # fmt: skip
  expected = None
  for one in sources:
    keras.utils.set_random_seed(1)
    model = Weighted()
    model.compile("adam", "binary_crossentropy")
    model.fit(one, verbose=0)
    values = {"user": data["user"], "item": data["item"], "tags": np.hstack(data["tags"])}
    keys = [tfps.feasign(slot, sorted(set(value))).numpy() for slot, value in values.items()]
    found = model.table.lookup(np.concatenate(keys))
    assert found["found"].all() and found["admitted"].any()
    expected = expected or found
    for name, values in expected.items():
      np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("seed", range(20))
def test_cutting(seed):
  """Every row in one ticket, in order; groups whole where they fit, parts of whole batches else."""
  random = np.random.default_rng(seed)
  groups = random.choice([0, 1, 5, 30, 64, 100, 3000], random.integers(6)).astype(np.int64)
  batch_size, batches = random.integers(1, 20), random.integers(1, 10)
  step = int(batch_size * batches)
  bounds = columns_source.cut(groups, step, int(batch_size))
  assert bounds[0] == 0 and bounds[-1] == groups.sum() and (np.diff(bounds) > 0).all()
  edges = np.cumsum([0, *groups])
  for begin, end in itertools.pairwise(bounds):
    inside = [edge for edge in edges if begin < edge < end]
    assert not inside or end - begin <= step
    assert end in edges or (end - begin) % batch_size == 0
  for begin, end in itertools.pairwise(edges):
    assert sum(begin < bound < end for bound in bounds) < columns_source._MOST_TICKETS


def test_tickets_are_read_in_any_order_and_in_a_graph(tmp_path):
  table = pa.table({"n": pa.array(range(500)), "s": [f"s{i}" for i in range(500)]})
  pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
  pq.write_table(table, tmp_path / "b.parquet", row_group_size=11)
  made = source(tmp_path / "*.parquet")
  tickets = list(made.tickets())
  texts = [text.encode() for text in table["s"].to_pylist()]
  assert read(made) == {".n": [*range(500)] * 2, ".s": texts * 2}

  @tf.function(input_signature=list(ticket_lib.TICKET_SPEC))
  def numbers(*fields):
    found = tf.zeros([0], tf.int64)
    for x, _ in iter(made.open(tfps.data.Ticket(*fields))):
      tf.autograph.experimental.set_loop_options(shape_invariants=[(found, tf.TensorShape([None]))])
      found = tf.concat([found, x["n"]], 0)
    return found

  order = np.random.default_rng(1).permutation(len(tickets))
  for i in order:
    values = numbers(*ticket_lib.as_tensors(tickets[i])).numpy().tolist()
    assert values == list(range(tickets[i].begin, tickets[i].end))


def test_a_view_with_another_batch_size_cuts_the_same(tmp_path):
  pq.write_table(pa.table({"n": range(500)}), tmp_path / "a.parquet")
  whole = source(tmp_path / "a.parquet").whole_tickets()
  expected = list(source(tmp_path / "a.parquet").tickets())
  assert list(whole.tickets()) == expected and len(expected) == columns_source._MOST_TICKETS
  assert read(whole)[".n"] == list(range(500))


def test_shuffled(tmp_path):
  pq.write_table(pa.table({"n": range(500)}), tmp_path / "a.parquet", row_group_size=100)
  made = source(tmp_path / "a.parquet", shuffle=True, seed=4)
  values = read(made)[".n"]
  assert values != sorted(values) and sorted(values) == list(range(500)) == sorted(values)
  assert read(made)[".n"] == values != read(made.with_epoch(1))[".n"]


def test_only_what_is_asked_for_is_read(tmp_path):
  table = pa.table({"a": range(1000), "b": [f"text {i}" for i in range(1000)]})
  path = tmp_path / "a.parquet"
  pq.write_table(table, path, compression="none", use_dictionary=False)
  chunk = pq.read_metadata(path).row_group(0).column(1)
  content = bytearray(path.read_bytes())
  begin = chunk.data_page_offset
  content[begin : begin + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
  path.write_bytes(content)
  assert read(source(path, of("a")))[".a"] == list(range(1000))
  made = source(path, of("b"))
  with pytest.raises(tf.errors.InvalidArgumentError, match="a.parquet cannot be read: "):
    read(made)
  for parse, message in (
    (of("c"), "parse asks for the column 'c', which the files do not have: there are a, b"),
    (of("aa"), "did you mean 'a'"),
    (lambda columns: (tf.ones([1]), tf.ones([1])), "parse asks for no column"),
  ):
    with pytest.raises(ValueError, match=message):
      source(path, parse)


def test_a_null_that_stands_for_nothing_is_a_bad_record(tmp_path):
  path = tmp_path / "a.parquet"
  column = pa.array([[1], [None, 2], None, []] * 5, pa.list_(pa.int64()))
  structs = pa.array([[{"w": 1.0}], [], [{"w": None}], None] * 5)
  pq.write_table(pa.table({"i": [1, 2, 3, None] * 5, "l": column, "e": structs}), path)
  assert read(source(path, of("l")))[".l"] == [[1], [2], [], []] * 5
  assert read(source(path, of("e"), nulls={"e.w": 0.5}))[".e.w"] == [[1.0], [], [0.5], []] * 5
  assert read(source(path, of("i"), nulls={"i": -1}))[".i"] == [1, 2, 3, -1] * 5
  assert read(source(path, of("i"), on_bad_record="skip"))[".i"] == [1, 2, 3] * 5
  assert read(source(path, of("e"), on_bad_record="skip"))[".e.w"] == [[1.0], [], []] * 5
  made = source(path, of("i"))
  with pytest.raises(tf.errors.InvalidArgumentError) as failure:
    read(made)
  explained = made.explain(next(made.tickets()), failure.value)
  assert str(explained).startswith(f"{path}, row 3: the column 'i' has a null here")
  for nulls, message in (
    ({"x": 1}, "nulls names 'x', which is no column"),
    ({"ew": 1}, "did you mean 'e.w'"),
    ({"i": "a"}, "nulls has 'a' for 'i'; it must be a whole number"),
    ({"e.w": True}, "must be a number"),
  ):
    with pytest.raises(ValueError, match=message):
      source(path, of("i"), nulls=nulls)


def said(made, ticket=None):
  with pytest.raises(tf.errors.InvalidArgumentError) as failure:
    read(made, [ticket or next(made.tickets())])
  return failures.explain(failure.value)


def test_a_file_that_changes_is_refused(tmp_path):
  path = tmp_path / "a.parquet"
  write = lambda values: pq.write_table(pa.table({"a": values}), path, row_group_size=100)
  write(range(300))
  made = source(path)
  tickets = list(made.tickets())
  assert len(read(made, tickets[:1])[".a"]) == tickets[0].records
  write([*range(299), 999])  # As many bytes, and as many rows.
  assert f"{path} changed: it is not the file that was cut" in said(made, tickets[0])
  assert f"{path} changed" in said(made, tickets[-1])
  write(range(300))
  assert len(read(made)[".a"]) == 300
  path.write_bytes(path.read_bytes()[:-1])
  assert f"{path} is no whole Parquet file" in said(made, tickets[0])
  path.unlink()
  assert f"{path} cannot be read" in said(made, tickets[0])


def test_what_is_no_parquet_file_is_refused(tmp_path):
  for content in (b"", b"a,b\n1,2\n", b"PAR1" + b"x" * 20 + b"\xff\xff\xff\x7fPAR1", b"PAR1" * 9):
    path = write(tmp_path / "a", content)
    with pytest.raises(ValueError, match=str(path)):
      source(path)
  path = tmp_path / "b"
  pq.write_table(pa.table({"a": ["x"]}), path)
  for form, settings in (("text", {}), ("csv", {"columns": ["a"]}), ("tfrecord", {})):
    made = tfps.data.source(str(path), lambda a: (a, a), format=form, **settings)
    with pytest.raises(ValueError, match="b is a Parquet file; set format='parquet'"):
      made.days()
  with pytest.raises(ValueError, match="nulls is for format='parquet'"):
    tfps.data.source(str(path), lambda a: (a, a), nulls={})
  with pytest.raises(ValueError, match="Parquet files have none"):
    source(path, header=True)


def test_files_of_other_schemas(tmp_path):
  """A column may be added, or written in another way; it may not become something else."""
  pq.write_table(pa.table({"a": [1]}), tmp_path / "0.parquet")
  pq.write_table(pa.table({"a": pa.array([2], pa.uint8()), "b": ["x"]}), tmp_path / "1.parquet")
  made = source(tmp_path / "*.parquet")
  assert read(made) == {".a": [1, 2], ".b": [b"", b"x"]}
  pq.write_table(pa.table({"a": ["3"]}), tmp_path / "0a.parquet")
  made = source(tmp_path / "*.parquet")
  assert "0a.parquet has the column 'a' as string, which is not what it is in" in said(
    made, list(made.tickets())[1]
  )


def test_a_folders_keys_are_columns(tmp_path):
  folder = tmp_path / "dt=2026-01-01" / "city=K%C3%B6ln"
  folder.mkdir(parents=True)
  pq.write_table(pa.table({"a": range(20)}), folder / "a.parquet")
  found = read(source(folder / "a.parquet"))
  assert found == {".a": [*range(20)], ".dt": [b"2026-01-01"] * 20, ".city": ["Köln".encode()] * 20}


def test_tensorflows_file_systems(tmp_path):
  pq.write_table(pa.table({"a": range(50)}), tmp_path / "a.parquet")
  tf.io.gfile.copy(str(tmp_path / "a.parquet"), "ram://folder/a.parquet", overwrite=True)
  assert read(source("ram://folder/*.parquet"))[".a"] == list(range(50))


def test_fsspecs_file_systems(tmp_path):
  fsspec = pytest.importorskip("fsspec")
  pq.write_table(pa.table({"a": range(50)}), tmp_path / "a.parquet")
  with fsspec.open("memory://folder/a.parquet", "wb") as file:
    file.write((tmp_path / "a.parquet").read_bytes())
  assert read(source("memory://folder/*.parquet"))[".a"] == list(range(50))
  with pytest.raises(ValueError, match="on which only format='parquet' is read"):
    tfps.data.source("memory://folder/a.parquet", lambda lines: (lines, lines))


def test_a_file_system_that_nobody_knows(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "fsspec", None)
  with pytest.raises(ValueError, match="memory, on which fsspec reads Parquet: run `pip install"):
    source("memory://folder/a.parquet")
