"""Paths on any of TensorFlow's file systems; importing this module does not load TensorFlow."""

from __future__ import annotations

import os


def join(*parts: str) -> str:
  """One path; the first part may name a file system."""
  return "/".join([parts[0].rstrip("/"), *parts[1:]])


def absolute(path: str | os.PathLike[str]) -> str:
  """The same text for the same folder, whatever the process's working directory is."""
  return str(path).rstrip("/") if "://" in str(path) else os.path.abspath(path)
