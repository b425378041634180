"""Paths on any of TensorFlow's file systems; importing this loads no TensorFlow."""

import os


def join(*parts):
  """One path; the first part may name a file system."""
  return "/".join([parts[0].rstrip("/"), *parts[1:]])


def absolute(path):
  """A path that names the same folder wherever the process is, always in the same way."""
  return str(path).rstrip("/") if "://" in str(path) else os.path.abspath(path)
