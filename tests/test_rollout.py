"""Rolling versions out and back by models.config, on servers with the real one's rules."""

import contextlib
import shutil
import threading
from concurrent import futures

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfps
from examples.online import server as stand_in
from examples.online.model_config import ConfiguredVersions
from tests import exports
from tests.commands import run
from tests.model_server import MODEL
from tests.patience import PATIENCE
from tfps.delivery import rollout
from tfps.delivery.channel import open_channel
from tfps.delivery.replica import Replica

CONFIG = """model_config_list {{
  config {{
    name: "{model}" base_path: "{base}" model_platform: "tensorflow"
    model_version_policy {{ specific {{ {versions} }} }}
    {labels}
  }}
}}
"""


def config_text(base, versions, labels=()):
  return CONFIG.format(
    model=MODEL,
    base=base,
    versions=" ".join(f"versions: {version}" for version in versions),
    labels=" ".join(f'version_labels {{ key: "{k}" value: {v} }}' for k, v in dict(labels).items()),
  )


@pytest.fixture(scope="module", name="export")
def _export(tmp_path_factory):
  folder = tmp_path_factory.mktemp("rollout")
  model, _ = exports.make_small_model()
  exporter = tfps.export.Exporter(model, folder, exports.SMALL_RAW)
  exporter.base()
  for number in (2, 3):
    shutil.copytree(folder / "base" / "1", folder / "base" / str(number))
  return folder


@contextlib.contextmanager
def servers(path, count=2):
  """Yields the addresses of stand-ins that read the config again and again."""
  stop = threading.Event()
  running, threads, addresses = [], [], []
  for _ in range(count):
    versions = ConfiguredVersions(path, allow_new_labels=True)
    versions.refresh()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    stand_in.add(server, MODEL, versions)
    addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()
    running.append(server)

    def follow(versions=versions):
      while not stop.wait(0.05):
        versions.refresh()

    threads.append(threading.Thread(target=follow))
    threads[-1].start()
  try:
    yield addresses
  finally:
    stop.set()
    for thread in threads:
      thread.join()
    for server in running:
      server.stop(None).wait()


def command(capsys, name, path, version, addresses, *options, timeout=PATIENCE):
  flags = [f"--server={address}" for address in addresses]
  return run(capsys, name, path, version, *flags, f"--timeout={timeout}", *options)


def served(address):
  """({versions}, {label: version}) of a server."""
  replica = Replica(address, open_channel(address), MODEL, PATIENCE)
  try:
    labels = {label: replica.version_of(label) for label in ("stable", "canary")}
    return set(replica.versions()), {name: found for name, found in labels.items() if found}
  finally:
    replica.close()


def test_a_label_that_moves_with_its_version_in_one_edit_never_takes_effect(export, tmp_path):
  """What the commands are for: the stand-in has the real server's rule."""
  path = tmp_path / "models.config"
  path.write_text(config_text(export / "base", [1], {"stable": 1}))
  versions = ConfiguredVersions(path, allow_new_labels=True)
  assert versions.refresh() == [1]
  path.write_text(config_text(export / "base", [2], {"stable": 2}))
  for _ in range(3):
    assert versions.refresh() == [1] and versions.labels == {"stable": 1}
  path.write_text(config_text(export / "base", [1, 2], {"stable": 1}))
  assert versions.refresh() == [1, 2]
  path.write_text(config_text(export / "base", [2], {"stable": 2}))
  assert versions.refresh() == [2] and versions.labels == {"stable": 2}


def test_out_as_a_canary_then_for_all_and_back(export, tmp_path, capsys):
  path = tmp_path / "models.config"
  path.write_text("# by hand\n" + config_text(export / "base", [1], {"stable": 1}))
  with servers(path) as addresses:
    before = path.read_text()
    code, out, err = command(capsys, "rollout", path, 2, addresses, "--dry-run")
    assert (code, err) == (0, "") and path.read_text() == before
    assert out.startswith("# Step 1: load version 2 beside 1.") and out.count("# Step") == 2
    code, out, err = command(capsys, "rollout", path, 2, addresses, "--label=canary")
    assert (code, err) == (0, "") and "Move label canary to 2." in out
    for address in addresses:
      assert served(address) == ({1, 2}, {"stable": 1, "canary": 2})
    code, out, err = command(capsys, "rollout", path, 2, addresses)
    assert (code, err) == (0, "") and "Move label stable to 2, drop version 1." in out
    assert out.endswith(f"{MODEL} is at version 2 on 2 servers.\n")
    for address in addresses:
      assert served(address) == ({2}, {"stable": 2, "canary": 2})
    assert command(capsys, "rollout", path, 2, addresses)[1].startswith("Nothing to do")
    code, out, err = command(capsys, "rollback", path, 1, addresses)
    assert (code, err) == (0, "") and "Move labels canary, stable to 1, drop version 2." in out
    for address in addresses:
      assert served(address) == ({1}, {"stable": 1, "canary": 1})


def test_a_version_that_is_not_there_leaves_all_as_it_was(export, tmp_path, capsys):
  path = tmp_path / "models.config"
  path.write_text(config_text(export / "base", [1], {"stable": 1}))
  before = path.read_text()
  with servers(path, count=1) as (address,):
    code, out, err = command(capsys, "rollout", path, 7, [address], timeout=1)
    assert code == 1 and out.endswith("The config is as it was.\n")
    assert f"{address} did not follow within 1 s: version 7 is not AVAILABLE" in err
    assert path.read_text() == before and served(address) == ({1}, {"stable": 1})


def test_without_labels_it_is_one_step(export, tmp_path, capsys):
  path = tmp_path / "models.config"
  path.write_text(config_text(export / "base", [1]))
  with servers(path, count=1) as (address,):
    code, out, _ = command(capsys, "rollout", path, 3, [address])
    assert code == 0 and out.startswith("Serve version 3.\n")
    assert served(address) == ({3}, {})


def test_what_is_no_such_config_is_refused(export, tmp_path, capsys):
  path = tmp_path / "models.config"
  for text, sentence in (
    ("model_config_list { config {", "is no models.config of TensorFlow Serving"),
    ('model_config_list { config { name: "other" } }', "has no model 'ctr' (it has other)"),
    ('model_config_list { config { name: "ctr" } }', "its policy is latest"),
  ):
    path.write_text(text)
    code, out, err = command(capsys, "rollout", path, 2, ["h:1"], "--dry-run")
    assert (code, out) == (1, "") and sentence in err and err.count("\n") == 1


LABELS = st.dictionaries(st.sampled_from(["stable", "canary", "old"]), st.integers(1, 4))


@given(LABELS, st.sets(st.integers(1, 4)), st.integers(1, 5), st.lists(st.sampled_from(list("ab"))))
def test_every_step_is_one_that_the_server_takes(labels, more, version, moved):
  """By the server's rule: a label is on a version that was there before the step."""
  there = set(labels.values()) | more or {1}
  config = rollout.ModelServerConfig()
  rollout.text_format.Parse(config_text("/base", sorted(there), labels), config)
  steps = rollout.plan(config, MODEL, version, moved)
  now = set(there)
  for step in steps:
    assert set(step.labels.values()) <= now
    entry = rollout.text_format.Parse(step.text, rollout.ModelServerConfig())
    (model,) = entry.model_config_list.config
    assert set(model.model_version_policy.specific.versions) == step.loaded
    assert dict(model.version_labels) == step.labels and model.base_path == "/base"
    now = set(step.loaded)
  if steps:
    assert steps[-1].labels == {**labels, **dict.fromkeys(moved or labels, version)}
    assert now == (set(steps[-1].labels.values()) or {version})
