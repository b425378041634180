"""Draws which rooms of tfps/ import which: docs/images/package_graph.svg, for docs/design.md.

A room is a package of tfps/ or a module beside the packages; `tfps/__init__.py`, which only names
what is public, and imports for type checkers alone do not count. An arrow points down, from what
imports to what is imported. Where rooms import each other in a circle no order has all arrows down:
the order with the fewest arrows up is taken, and these are red.

  python docs/package_graph.py
  python docs/package_graph.py --root=OTHER_CHECKOUT --output=docs/images/package_graph_before.svg
"""

import argparse
import ast
import itertools
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "images" / "package_graph.svg"
_WIDTH, _LAYER, _BOX = 1100, 86, 26  # of the picture, of a layer and of a box, in pixels


def read(root):
  """({room}, {(importing room, imported room)}) of the sources in `root`/tfps."""
  rooms, imports = set(), set()
  for path in sorted((root / "tfps").rglob("*.py")):
    room = path.relative_to(root / "tfps").with_suffix("").parts[0]
    if room.startswith("_"):
      continue
    rooms.add(room)
    imports |= {(room, name) for name in _imported(ast.parse(path.read_text()))}
  return rooms, {(a, b) for a, b in imports if a != b and b in rooms}


def _imported(tree):
  """The rooms that a syntax tree imports from."""
  if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
    return
  names = []
  if isinstance(tree, ast.Import):
    names = [alias.name for alias in tree.names]
  elif isinstance(tree, ast.ImportFrom) and tree.module:
    names = [f"{tree.module}.{alias.name}" for alias in tree.names]
  yield from (name.split(".")[1] for name in names if name.startswith("tfps."))
  for child in ast.iter_child_nodes(tree):
    yield from _imported(child)


def upward(rooms, arrows):
  """The fewest arrows without which there is no circle; of equally few the first by name."""
  result = set()
  for knot in _knots(rooms, arrows):
    within = sorted((a, b) for a, b in arrows if a in knot and b in knot)
    count = itertools.count(1)
    result |= next(
      set(left_out)
      for number in count
      for left_out in itertools.combinations(within, number)
      if not _knots(knot, set(within) - set(left_out))
    )
  return result


def _knots(rooms, arrows):
  """Sets of more than one room, each of which reaches all others of its set."""
  reached = {room: {room} for room in rooms}
  for _ in rooms:
    for a, b in arrows:
      reached[a] |= reached[b]
  knots = {frozenset(b for b in reached[a] if a in reached[b]) for a in rooms}
  return sorted((knot for knot in knots if len(knot) > 1), key=sorted)


def layers(rooms, arrows):
  """[[room]] from the top: each imports only from layers below, and is as low as it can be."""
  height = {}

  def measure(room):
    if room not in height:
      height[room] = 1 + max((measure(b) for a, b in sorted(arrows) if a == room), default=-1)
    return height[room]

  top = max(measure(room) for room in sorted(rooms))
  rows = [sorted(room for room in rooms if height[room] == h) for h in range(top, -1, -1)]
  # A room stands near those that it imports and that import it.
  place = {}
  for _ in range(8):
    for row in [*rows, *rows[::-1]]:
      place |= {room: (i + 1) / (len(row) + 1) for i, room in enumerate(row)}
      near = {
        room: [place.get(b if a == room else a, 0.5) for a, b in arrows if room in (a, b)]
        for room in row
      }
      row.sort(key=lambda room: (round(sum(near[room]) / (len(near[room]) or 1), 6), room))
  return rows


def draw(rooms, arrows):
  """The picture as SVG."""
  up = upward(rooms, arrows)
  rows = layers(rooms, arrows - up)
  at, wide = {}, {room: 14 + 8 * len(room) for room in rooms}
  for number, row in enumerate(rows):
    gap = (_WIDTH - sum(wide[room] for room in row)) / (len(row) + 1)
    x = gap
    for room in row:
      at[room] = round(x + wide[room] / 2), 70 + _LAYER * number
      x += wide[room] + gap
  height = 70 + _LAYER * len(rows) - _LAYER // 2
  title = f"{len(rooms)} rooms, {len(arrows)} arrows, {len(up) or 'none'} upward"
  lines = [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
    'font-family="sans-serif">',
    "<defs>"
    + "".join(
      f'<marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
      'markerHeight="7" markerUnits="userSpaceOnUse" orient="auto">'
      f'<path d="M0 0 L8 4 L0 8 z" fill="{color}"/></marker>'
      for name, color in (("down", "#8aa"), ("up", "#c22"))
    )
    + "</defs>",
    f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    f'<text x="{_WIDTH // 2}" y="28" font-size="18" text-anchor="middle">{title}</text>',
  ]
  for a, b in sorted(arrows, key=lambda arrow: (arrow in up, arrow)):
    name, style = (
      ("up", 'stroke="#c22" stroke-width="2.5"') if (a, b) in up else ("down", 'stroke="#8aa"')
    )
    sign = -1 if (a, b) in up else 1
    (x1, y1), (x2, y2) = at[a], at[b]
    y1, y2 = y1 + sign * _BOX // 2, y2 - sign * _BOX // 2
    bend, aside = sign * max(abs(y2 - y1) // 2, 20), 90 if (a, b) in up else 0
    path = f"M{x1} {y1} C{x1 - aside} {y1 + bend} {x2 - aside} {y2 - bend} {x2} {y2}"
    lines.append(f'<path d="{path}" fill="none" {style} marker-end="url(#{name})"/>')
  for room, (x, y) in sorted(at.items()):
    lines.append(
      f'<rect x="{x - wide[room] // 2}" y="{y - _BOX // 2}" width="{wide[room]}" '
      f'height="{_BOX}" rx="5" '
      'fill="#eef4f4" stroke="#466"/>'
      f'<text x="{x}" y="{y + 5}" font-size="14" text-anchor="middle">{room}</text>'
    )
  return "\n".join([*lines, "</svg>"]) + "\n"


def main():
  flags = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  flags.add_argument("--root", type=pathlib.Path, default=ROOT, help="the repository's folder")
  flags.add_argument("--output", type=pathlib.Path, default=OUTPUT)
  flags = flags.parse_args()
  flags.output.write_text(draw(*read(flags.root)))


if __name__ == "__main__":
  main()
