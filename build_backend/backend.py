"""PEP 517 backend: setuptools, which gets a TensorFlow to build with only where there is none."""

import installed_tensorflow
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the hooks that stay setuptools' own)


def _requires(setuptools_requires):
  return setuptools_requires + installed_tensorflow.build_requirements()


def get_requires_for_build_wheel(config_settings=None):
  return _requires(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings=None):
  return _requires(build_meta.get_requires_for_build_editable(config_settings))
