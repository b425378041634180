"""Paths on any of TensorFlow's file systems."""


def join(*parts):
  """One path; the first part may name a file system."""
  return "/".join([parts[0].rstrip("/"), *parts[1:]])
