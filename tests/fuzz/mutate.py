"""Changes of what was right, and values that are at the edges of their types."""

import copy
import json

NUMBERS = (
  0,
  1,
  -1,
  2,
  3,
  7,
  255,
  2**31 - 1,
  -(2**31),
  2**31,
  2**32,
  2**62,
  2**63 - 1,
  -(2**63),
  2**64,
)
TEXTS = (
  "",
  "0",
  "-1",
  "nan",
  "../x",
  "/etc/passwd",
  "a/../../b",
  "\0",
  "é",
  "x" * 5000,
  "chief",
  "{}",
)
_STRANGE = (None, True, False, 0.5, -1e308, float("nan"), [], {}, [[]], {"": {}})


def value(rng):
  """Anything that JSON has."""
  kind = rng.randrange(4)
  if kind == 0:
    return rng.choice(NUMBERS)
  if kind == 1:
    return rng.choice(TEXTS)
  if kind == 2:
    return copy.deepcopy(rng.choice(_STRANGE))
  return [value(rng) for _ in range(rng.randrange(3))]


def tree(rng, content):
  """Some of what JSON has, with a few places changed."""
  content = json.loads(json.dumps(content))
  for _ in range(rng.randrange(1, 4)):
    content = _change(rng, content)
  return content


def _change(rng, node):
  if not isinstance(node, (dict, list)) or not node or rng.random() < 0.15:
    return value(rng)
  keys = list(node) if isinstance(node, dict) else list(range(len(node)))
  key = rng.choice(keys)
  how = rng.random()
  if how < 0.1:
    del node[key]
  elif how < 0.15 and isinstance(node, dict):
    node[rng.choice(TEXTS)] = node.pop(key)
  elif how < 0.2 and isinstance(node, list):
    node.append(node[key])
  else:
    node[key] = _change(rng, node[key])
  return node


def data(rng, content):
  """Bytes with some of them flipped, cut off, repeated or put in."""
  content = bytearray(content)
  for _ in range(rng.choice((1, 1, 1, 2, 8))):
    at = rng.randrange(len(content) + 1)
    how = rng.randrange(5)
    if how <= 1 and at < len(content):
      content[at] ^= 1 << rng.randrange(8)
    elif how == 2:
      del content[at:]
    elif how == 3:
      content[at:at] = rng.randbytes(rng.choice((1, 8, 100)))
    else:
      content[at:at] = content[at : at + rng.randrange(64)]
  return bytes(content)
