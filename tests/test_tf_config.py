"""TF_CONFIG: what is read from it, and the sentence for everything that can be wrong with it."""

import copy
import json
import subprocess
import sys

import pytest

from tfps.cluster import tf_config
from tfps.errors import ConfigError

GOOD = {
  "cluster": {
    "chief": ["host0:2222"],
    "worker": ["host1:2222", "host2:2222"],
    "ps": ["[::1]:2222"],
  },
  "task": {"type": "worker", "index": 1},
}


def _changed(path, value):
  config = copy.deepcopy(GOOD)
  holder = config
  for key in path[:-1]:
    holder = holder[key]
  if value is None:
    del holder[path[-1]]
  else:
    holder[path[-1]] = value
  return json.dumps(config)


def test_task():
  task = tf_config.parse(json.dumps(GOOD))
  assert (task.type, task.index, task.address) == ("worker", 1, "host2:2222")
  assert task.cluster.chief == ("host0:2222",)
  assert list(task.cluster.servers()) == [
    ("worker", 0, "host1:2222"),
    ("worker", 1, "host2:2222"),
    ("ps", 0, "[::1]:2222"),
  ]
  assert tf_config.split_address("[::1]:2222") == ("::1", 2222)


@pytest.mark.parametrize("environ", [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": " "}])
def test_none_set_is_a_process_alone(environ):
  assert tf_config.read(environ) is None


def test_evaluator_may_be_listed_or_not():
  assert tf_config.parse(_changed(["task"], {"type": "evaluator", "index": 0})).address is None
  config = copy.deepcopy(GOOD)
  config["cluster"]["evaluator"] = ["host9:1"]
  config["task"] = {"type": "evaluator", "index": 0}
  assert tf_config.parse(json.dumps(config)).address == "host9:1"
  assert "evaluator" not in tf_config.parse(json.dumps(config)).cluster.spec()


@pytest.mark.parametrize(
  "text, names",
  [
    ("{'cluster': 1}", ["JSON", "line 1, column 2"]),
    ("[1]", ["JSON object"]),
    (_changed(["cluster"], None), ["'cluster'", "unset TF_CONFIG"]),
    (_changed(["task"], None), ["'task'"]),
    (_changed(["task"], 3), ["task must be an object"]),
    (_changed(["cluster", "chief"], None), ["cluster.chief is missing"]),
    (_changed(["cluster", "worker"], None), ["cluster.worker is missing", "at least one"]),
    (_changed(["cluster", "ps"], []), ["cluster.ps is missing"]),
    (_changed(["cluster", "ps"], "host:1"), ["cluster.ps must be a list"]),
    (_changed(["cluster", "master"], ["a:1"]), ["cluster.master", "use chief"]),
    (_changed(["cluster", "chief"], ["a:1", "b:1"]), ["2 addresses", "one chief"]),
    (_changed(["cluster", "ps"], ["host"]), ["cluster.ps[0]", '"host"', '"host:port"']),
    (_changed(["cluster", "ps"], ["host:0"]), ["cluster.ps[0]", "1 to 65535"]),
    (_changed(["cluster", "ps"], ["host:99999"]), ["cluster.ps[0]", "1 to 65535"]),
    (_changed(["cluster", "ps"], ["grpc://host:1"]), ["cluster.ps[0]"]),
    (_changed(["cluster", "ps"], [7]), ["cluster.ps[0] is 7"]),
    (
      _changed(["cluster", "ps"], ["host1:2222"]),
      ["cluster.ps[0] and cluster.worker[0]", "host1:2222", "own port"],
    ),
    (_changed(["task", "type"], "boss"), ["task.type", '"boss"', "use chief"]),
    (_changed(["task", "type"], None), ["task.type is null"]),
    (_changed(["task", "index"], 2), ["task.index is 2", "2 addresses", "use 0 to 1"]),
    (_changed(["task", "index"], -1), ["task.index is -1"]),
    (_changed(["task", "index"], True), ["task.index is true"]),
    (_changed(["task", "index"], "x"), ['task.index is "x"']),
  ],
)
def test_one_sentence_names_field_and_remedy(text, names):
  with pytest.raises(ConfigError) as raised:
    tf_config.read({"TF_CONFIG": text})
  message = str(raised.value)
  assert "\n" not in message and message.endswith(".") and message.startswith("TF_CONFIG")
  for name in names:
    assert name in message


def test_reading_needs_no_tensorflow():
  code = "import sys, tfps.cluster, tfps.cli.main; sys.exit('tensorflow' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
