"""The model of a config is called with what it declares."""

import sys

import pytest

import tfps
from tfps.cli import config as config_lib
from tfps.errors import ConfigError
from tfps.job.model import make_model
from tfps.training.config import default_config


class Own(tfps.Model):
  def __init__(self, table, slots, width=3, **more):
    super().__init__()
    self.given = (table, slots, width, more)


class Declares(tfps.Model):
  def __init__(self, table, slots, hidden=(7,), *, depth):
    super().__init__()
    self.given = (table, slots, hidden, depth)


def of_table(table, width=2):
  return Own(table, None, width)


def plain(table, slots):
  return Own(table, slots)


def no_model(table, slots):
  return 3


def configured(**args):
  config = default_config()
  config.slots = ("a", "b")
  config.model.args.update(args)
  return config


def test_only_what_is_declared_is_given():
  defaults = dict(hidden=(256, 128), combiner="mean", dropout=0.0)
  slots = ["a", "b"]
  assert make_model(configured(depth=4), Declares, "table").given == ("table", slots, (256, 128), 4)
  assert make_model(configured(), plain, "table").given == ("table", slots, 3, {})
  assert make_model(configured(width=5), of_table, "table").given == ("table", None, 5, {})
  assert make_model(configured(), of_table, "table").given == ("table", None, 2, {})
  assert make_model(configured(x=1), Own, "table").given == (
    "table",
    slots,
    3,
    {**defaults, "x": 1},
  )


@pytest.mark.parametrize(
  "made, args, message",
  [
    (Declares, {}, "Declares needs the argument 'depth': set config.model.args.depth"),
    (Declares, dict(depth=1, width=2), "sets 'width', which Declares does not declare; it takes h"),
    (plain, dict(hidden=(4,)), "sets 'hidden', which plain does not declare; it takes none"),
    (no_model, {}, "no_model returned a int: config.model.name must be"),
  ],
)  # fmt: skip
def test_what_does_not_fit_ends_in_one_sentence(made, args, message):
  with pytest.raises(ConfigError, match=message):
    make_model(configured(**args), made, "table")


# Modules beside a config.

CONFIG = """
import helper
from ml_collections import config_dict

def get_config():
  import lazily
  model = config_dict.create(file="", name="Net")
  return config_dict.create(model=model, one=helper.ONE, two=lazily.TWO)

def source(config):
  import later
  return later.THREE + helper.ONE

class Net:
  pass
"""


def write(folder, one):
  folder.mkdir()
  (folder / "helper.py").write_text(f"ONE = {one}\n")
  (folder / "lazily.py").write_text(f"TWO = {one + 1}\n")
  (folder / "later.py").write_text(f"import helper\nTHREE = helper.ONE + {one + 2}\n")
  (folder / "run.py").write_text(CONFIG)
  return str(folder / "run.py")


def test_a_config_imports_what_is_beside_it(tmp_path):
  paths = list(sys.path)
  for folder, one in (("first", 10), ("second", 20)):
    module, config = config_lib.load(write(tmp_path / folder, one))
    assert (config.one, config.two) == (one, one + 1)
    assert config_lib.function(module, "source")(config) == 3 * one + 2
    assert config_lib.model_class(module, config) is module.Net
    assert sys.path == paths
  assert config_lib.optional_function(module, "callbacks") is None
  (tmp_path / "first" / "broken.py").write_text("import nowhere_to_be_found\n")
  with pytest.raises(ConfigError, match="No module named 'nowhere_to_be_found'"):
    config_lib.load_module(tmp_path / "first" / "broken.py")
  assert sys.path == paths
