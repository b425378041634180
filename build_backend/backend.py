"""PEP 517 backend: setuptools, which builds against the TensorFlow that is installed and fetches one only where there is none."""

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the hooks that stay setuptools' own)

import installed_tensorflow


def _requires(setuptools_requires):
  return setuptools_requires + ([] if installed_tensorflow.find() else [installed_tensorflow.PINNED])


def get_requires_for_build_wheel(config_settings=None):
  return _requires(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings=None):
  return _requires(build_meta.get_requires_for_build_editable(config_settings))
