"""Lets a base stay in its folder whatever `keep` says, such as one to roll back to.

Without a version it lists what is pinned, and which bases running servers have, as `tfps sync` has
noted: those stay, too.
"""

from __future__ import annotations

import argparse

NAME = "pin"
HELP = "let a base stay whatever config.export.keep says"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("folder", metavar="EXPORT_FOLDER", help="the folder that exports go to")
  parser.add_argument("version", metavar="VERSION", type=int, nargs="?", help="the base's number")
  parser.add_argument("--remove", action="store_true", help="take the pin away")


def run(args: argparse.Namespace) -> int:
  from tfps.errors import ExportError
  from tfps.export import in_use
  from tfps.export.artifact import ARTIFACTS
  from tfps.storage import paths

  folder = args.folder.rstrip("/")
  if args.version is None:
    if args.remove:
      args.parser.error("--remove needs the version")
    for version, reason in sorted(in_use.reasons(folder).items()):
      print(f"Base {version} stays: {reason}.")
    return 0
  if args.remove:
    if not in_use.unpin(folder, args.version):
      raise ExportError(f"Base {args.version} in {folder} is not pinned.")
    print(f"Base {args.version} is not pinned any more.")
    return 0
  if not ARTIFACTS.exists(paths.join(folder, "base", str(args.version))):
    raise ExportError(f"{folder} has no base {args.version}: name one that is there.")
  in_use.pin(folder, args.version)
  print(
    f"Base {args.version} is pinned: it stays until `tfps pin {folder} {args.version} --remove`."
  )
  return 0
