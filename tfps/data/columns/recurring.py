"""Which columns of texts are read as dictionaries: those whose texts recur."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

# A row's number of a text takes two bytes or so. Where a row takes more than this, dictionaries are
# large, or a writer gave them up, and making them again costs more than texts do.
_MOST_BYTES = 6


def columns(metadata: pq.FileMetaData, schema: pa.Schema) -> list[str]:
  """The paths of these columns, judged by the first row group.

  Args:
    metadata: of a file.
    schema: what its columns are.
  """
  leaves = [leaf for field in schema for leaf in _leaves(field.type)]
  if not metadata.num_row_groups or len(leaves) != metadata.num_columns:
    return []
  group = metadata.row_group(0)
  return [
    group.column(i).path_in_schema
    for i, leaf in enumerate(leaves)
    if _is_text(leaf)
    and group.column(i).has_dictionary_page
    and group.column(i).total_uncompressed_size < _MOST_BYTES * group.column(i).num_values
  ]


def in_lists(schema: pa.Schema) -> bool:
  """Whether there are dictionaries within lists or maps."""
  return any(
    pa.types.is_dictionary(leaf)
    for field in schema
    for leaf in _leaves(field.type)
    if pa.types.is_nested(field.type)
  )


def _leaves(kind: pa.DataType) -> Iterator[pa.DataType]:
  """The types of a column's leaves, in the order of Parquet's columns."""
  if pa.types.is_map(kind):
    inner = [kind.key_type, kind.item_type]
  elif pa.types.is_struct(kind):
    inner = [field.type for field in kind]
  elif pa.types.is_nested(kind) and hasattr(kind, "value_type"):
    inner = [kind.value_type]
  else:
    yield kind
    return
  for one in inner:
    yield from _leaves(one)


def _is_text(kind: pa.DataType) -> bool:
  types = pa.types
  return (
    types.is_string(kind)
    or types.is_large_string(kind)
    or types.is_binary(kind)
    or types.is_large_binary(kind)
  )
