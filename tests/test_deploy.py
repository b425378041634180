"""deploy/: its files agree with the command line, TF_CONFIG and each other; no cluster runs."""

import json
import pathlib
import re
import shlex

import pytest
import yaml

from deploy import lock
from tfps.cli import main
from tfps.cluster import exit_codes, liveness, tf_config

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"


@pytest.fixture(name="job")
def _job():
  return yaml.safe_load((DEPLOY / "tfjob.yaml").read_text())


def _instructions():
  """[(instruction, its arguments)] of the Dockerfile."""
  text = re.sub(r"\\\n", "", (DEPLOY / "Dockerfile").read_text())
  lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
  return [tuple(line.split(None, 1)) for line in lines]


def _tf_configs(job):
  """(type, TF_CONFIG) of every task as Kubeflow's operator writes it, evaluators outside."""
  name, specs = job["metadata"]["name"], job["spec"]["tfReplicaSpecs"]
  cluster = {
    kind.lower(): [f"{name}-{kind.lower()}-{i}.ads.svc:2222" for i in range(spec["replicas"])]
    for kind, spec in specs.items()
    if kind != "Evaluator"
  }
  for kind, spec in specs.items():
    for index in range(spec["replicas"]):
      task = {"type": kind.lower(), "index": index}
      yield kind, {"cluster": cluster, "task": task, "environment": "cloud"}


def test_every_task_is_one_that_tfps_knows(job):
  assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "TFJob")
  tasks = [tf_config.parse(json.dumps(config)) for _, config in _tf_configs(job)]
  assert [task.type for task in tasks].count("chief") == 1
  assert {task.type for task in tasks} == {"chief", "ps", "worker", "evaluator"}
  assert len(tasks[0].cluster.worker) == 3 and len(tasks[0].cluster.ps) == 2


def test_restarts_are_those_of_the_exit_codes(job):
  for spec in job["spec"]["tfReplicaSpecs"].values():
    assert spec["restartPolicy"] == "ExitCode"  # From 128 on a task is started again.
  assert (
    exit_codes.RESTART == 138
  )  # SIGUSR1's, which earlier operators try again, as they do no other one of ours.
  for code in (exit_codes.RESTART, 137, 143, -9):
    assert exit_codes.is_worth_a_restart(code)
  for code in (0, exit_codes.FAILED, 2, 127):
    assert not exit_codes.is_worth_a_restart(code)


def test_every_task_runs_a_command_of_tfps_with_what_it_needs(job, monkeypatch):
  monkeypatch.chdir(ROOT)  # The image has configs and models where the command starts.
  for spec in job["spec"]["tfReplicaSpecs"].values():
    (container,) = spec["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow"
    assert {"name": "tfjob-port", "containerPort": 2222} in container["ports"]
    args = main.parse(container["args"])
    args.command_module.check(args)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {volume["name"] for volume in spec["template"]["spec"]["volumes"]} == set(mounts)
    folders = [each.split("=")[1] for each in container["args"] if "=/" in each]
    assert len(folders) == 3 and all(each.startswith(f"{mounts['data']}/") for each in folders)
    for variable in container["env"]:
      monkeypatch.setenv(variable["name"], variable["value"])
      assert variable["name"] == "TFPS_CHIEF_LOST_SECONDS"
    assert liveness.chief_lost_seconds() == 30
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 30


def test_the_image_has_what_the_job_names():
  instructions = _instructions()
  assert [name for name, _ in instructions].count("FROM") == 2
  version = (ROOT / "Makefile").read_text().split("PYTHON ?= python", 1)[1].split()[0]
  assert all(rest.startswith(f"python:{version}-") for name, rest in instructions if name == "FROM")
  sources = [
    source
    for name, rest in instructions
    if name == "COPY" and not rest.startswith("--from")
    for source in shlex.split(rest)[:-1]
  ]
  assert {"tfps", "ops", "configs", "models", "requirements-deploy.lock"} <= set(sources)
  ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
  assert ignored[0] == "*" and {f"!{source}" for source in sources} <= set(ignored)
  assert all((ROOT / source).exists() for source in sources)
  # What setup.py and the build read is there.
  for needed in (
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "build_backend",
  ):
    assert needed in sources
  assert ("ENTRYPOINT", '["tfps"]') in instructions
  user = next(rest for name, rest in instructions if name == "USER")
  assert user != "0" and user != "root"


def test_what_is_deployed_is_what_is_tested_with_a_hash_each():
  tested, deployed = lock.pins(lock.LOCK), lock.pins(lock.DEPLOY_LOCK)
  assert deployed == {name: tested[name] for name in sorted(lock.needed(), key=list(tested).index)}
  lines = [line for line in lock.DEPLOY_LOCK.read_text().splitlines() if not line.startswith("#")]
  assert len(lines) == len(deployed) > 40
  for line in lines:
    assert re.fullmatch(r"[A-Za-z0-9_.-]+==\S+ --hash=sha256:[0-9a-f]{64}", line), line
  install = ("RUN", "pip install --no-cache-dir --require-hashes -r requirements-deploy.lock")
  assert install in _instructions()
  assert "pytest" not in deployed and "tensorflow" in deployed
