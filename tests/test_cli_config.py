"""Config files and overrides on the command line, and how their errors read."""

import json
import subprocess
import sys

import pytest

from tests.patience import PATIENCE
from tfps.cli import config as config_lib
from tfps.cli import main
from tfps.errors import ConfigError

CONFIG = """
from ml_collections import config_dict

def get_config():
  config = config_dict.ConfigDict()
  config.batch_size = 512
  config.learning_rate = 0.5
  config.shuffle = True
  config.name = "one"
  config.stops = [1, 2]
  config.folder = config_dict.placeholder(str)
  config.model = config_dict.create(file="models/m.py", name="Net", hidden=(256, 128))
  config.model.inner = config_dict.create(create_threshold=10.0)
  return config

def source(config):
  return config.batch_size
"""


@pytest.fixture(name="path")
def _path(tmp_path):
  folder = tmp_path / "configs"
  folder.mkdir()
  path = folder / "run.py"
  path.write_text(CONFIG)
  return str(path)


def _error(path, *overrides):
  with pytest.raises(ConfigError) as raised:
    config_lib.load(path, overrides)
  message = str(raised.value)
  assert "\n" not in message and message.endswith(".")
  return message


def test_overrides(path):
  module, config = config_lib.load(
    path,
    [
      "--config.batch_size=1024",
      "--config.learning_rate",
      "2",
      "--noconfig.shuffle",
      "--config.name=a = b: c",
      "--config.folder=/data",
      "--config.model.hidden=(64, 32, 16)",
      "--config.model.inner.create_threshold=3",
    ],
  )
  assert (config.batch_size, config.learning_rate, config.shuffle) == (1024, 2.0, False)
  assert (config.name, config.folder, config.model.hidden) == ("a = b: c", "/data", (64, 32, 16))
  assert config.model.inner.create_threshold == 3.0
  assert isinstance(config.model.inner.create_threshold, float)
  assert module.source(config) == 1024
  assert config.is_locked


def test_one_load_does_not_change_the_next(path):
  config_lib.load(path, ["--config.batch_size=1"])
  assert config_lib.load(path)[1].batch_size == 512


@pytest.mark.parametrize(
  "override, names",
  [
    ("--config.batchsize=1", ["'batchsize'", "'batch_size'"]),
    ("--config.create_threshold=1", ["'model.inner.create_threshold'"]),
    ("--config.model.inner.create_treshold=1", ["'model.inner.create_threshold'"]),
    ("--config.modle.hidden=1", ["'model.hidden'"]),
    ("--config.batch_size.x=1", ["'batch_size.x'", "nearest is 'batch_size'"]),
    ("--config.batch_size=many", ["config.batch_size", "whole number", "'many'"]),
    ("--config.batch_size=1.5", ["config.batch_size", "whole number", "'1.5'"]),
    ("--config.learning_rate=fast", ["config.learning_rate", "a number", "'fast'"]),
    ("--config.shuffle=maybe", ["config.shuffle", "true or false", "'maybe'"]),
    ("--config.model.hidden=(a,b)", ["config.model.hidden", "tuple", "(a,b)"]),
    ("--config.model.hidden=wide", ["config.model.hidden", "whole number", "'wide'"]),
    ("--config.model=3", ["config.model is a group", "file, hidden, inner, name"]),
    ("--config.stops=3", ["config.stops is a list", "tuple"]),
    ("--config.batch_size", ["Missing value", "config.batch_size"]),
  ],
)
def test_wrong_override(path, override, names):
  message = _error(path, override)
  for name in names:
    assert name in message


def test_stray_value(path):
  assert "(64, 32)" in _error(path, "--config.model.hidden=64", "(64, 32)")


@pytest.mark.parametrize(
  "text, names",
  [
    ("x = 1\n", ["no function get_config()"]),
    ("def get_config():\n  return 3\n", ["get_config()", "ConfigDict", "int"]),
    ("x = 1\ny = x.z\n", ["broken.py:2: AttributeError"]),
    ("def get_config():\n  return undefined\n", ["broken.py:2: NameError", "'undefined'"]),
    ("def get_config(:\n", ["broken.py:1: SyntaxError"]),
    ("import json\njson.loads('{')\n", ["broken.py:2: JSONDecodeError"]),
  ],
)
def test_broken_file(tmp_path, text, names):
  path = tmp_path / "broken.py"
  path.write_text(text)
  message = _error(str(path))
  for name in names:
    assert name in message


def test_missing_file(tmp_path):
  assert "no file" in _error(str(tmp_path / "none.py"))
  (tmp_path / "a.txt").write_text("")
  assert ".py" in _error(str(tmp_path / "a.txt"))


def test_load_by_path(path, tmp_path):
  module, config = config_lib.load(path)
  (tmp_path / "models").mkdir()
  (tmp_path / "models" / "m.py").write_text("class Net: pass\n")
  base = config_lib.root(module)
  net = config_lib.load_attribute(config.model.file, config.model.name, base)
  assert net.__name__ == "Net"
  assert net is config_lib.load_by_path(str(tmp_path / "models" / "m.py"), "/").Net
  with pytest.raises(ConfigError, match="'Nett'; the nearest is 'Net'"):
    config_lib.load_attribute(config.model.file, "Nett", base)


def _tfps(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "tfps", *arguments],
    capture_output=True,
    text=True,
    timeout=PATIENCE,
    check=False,
  )


def test_print_config(path):
  done = _tfps("train", f"--config={path}", "--config.model.hidden=(1,)", "--print-config")
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout)["model"]["hidden"] == [1]


def test_command_says_one_sentence_and_fails(path):
  done = _tfps("train", f"--config={path}", "--config.batchsize=1")
  assert done.returncode == 1
  assert done.stderr == (
    "tfps: error: The config has no field 'batchsize'; the nearest is 'batch_size'.\n"
  )
  launched = _tfps("launch", "--", "train", f"--config={path}", "--config.batchsize=1")
  assert (launched.returncode, launched.stderr) == (1, done.stderr)


def test_verbose_shows_the_trace(path):
  done = _tfps("train", "--verbose", f"--config={path}", "--config.batchsize=1")
  assert done.returncode == 1
  assert "Traceback" in done.stderr and "tfps: error: The config has no field" in done.stderr


def test_usage_errors_end_with_2(path, capsys):
  for arguments in (
    ["train"],
    ["train", f"--config={path}", "--batch_size=3"],
    ["launch", "--workers=0", "--", "train"],
    ["launch"],
    ["frobnicate"],
    [],
  ):
    with pytest.raises(SystemExit) as leaving:
      main.main(arguments)
    assert leaving.value.code == 2, arguments
    assert "usage: tfps" in capsys.readouterr().err


def test_bad_tf_config_ends_the_command(path, monkeypatch, capsys):
  monkeypatch.setenv("TF_CONFIG", '{"task": {"type": "chief", "index": 0}}')
  assert main.main(["train", f"--config={path}"]) == 1
  assert capsys.readouterr().err.startswith("tfps: error: TF_CONFIG has no 'cluster' field")
