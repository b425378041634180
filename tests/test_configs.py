"""The configs of the repository, each on a little data in its published format."""

import json
import os
import pathlib

import pytest
import tensorflow as tf

from tfps.cli import config as cli_config
from tfps.cli import main as cli
from tfps.job import train as run

ROOT = pathlib.Path(__file__).resolve().parent.parent

USERS = "".join(
  f"{user}::{'FM'[user % 2]}::{25 + user % 3}::{user % 5}::{10000 + user}\n"
  for user in range(1, 21)
)
MOVIES = "".join(
  f"{movie}::Film {movie} ({1950 + movie})::Drama|Comedy\n" for movie in range(1, 31)
)
RATINGS = [(user, movie, (user * movie) % 10 + 1, 1_000_000_000 + 3000 * (user + 20 * movie))
           for user in range(1, 21) for movie in range(1, 31)]  # fmt: skip


def write_ratings(folder, most):
  (folder / "users.dat").write_text(USERS, "latin-1")
  (folder / "movies.dat").write_text(MOVIES, "latin-1")
  lines = [
    f"{user}::{movie}::{min(rating, most)}::{time}\n" for user, movie, rating, time in RATINGS
  ]
  (folder / "ratings.dat").write_text("".join(lines))


def write_criteo(folder):
  counts = "\t".join(str(i) for i in range(13))
  categories = "\t".join(f"c{i:02}" for i in range(26))
  (folder / "train.tsv").write_text(
    "".join(f"{i % 2}\t{counts}\t{categories}\n" for i in range(700))
  )


def train(name, *overrides):
  module, config = cli_config.load(str(ROOT / "configs" / f"{name}.py"), list(overrides))
  model_class = cli_config.load_attribute(
    config.model.file, config.model.name, base=cli_config.root(module)
  )
  return run.run(config, module.source(config), model_class)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("name, most", [("movietweetings", 10), ("movielens", 5)])
def test_ratings(name, most, tmp_path):
  write_ratings(tmp_path, most)
  summary = train(name, f"--config.data.folder={tmp_path}")
  slots = 7 if name == "movietweetings" else 12
  # Two genres each, one feasign in every other slot.
  assert summary.table["show"] == 600 * (slots + 1)
  assert len(summary.days) == 22
  assert "all days" in summary.text()
  assert summary.as_dict()["examples"] == 600


def test_criteo(tmp_path):
  write_criteo(tmp_path)
  files = ["--config.data.files=('train.tsv',)", f"--config.data.folder={tmp_path}"]
  summary = train("criteo", *files, "--config.end_of_day=False", "--config.epochs=2")
  assert summary.table["show"] == 2 * 700 * 39
  # Only what was not trained on before counts as tested.
  assert [day.records for day, _ in summary.days] == [700]


def test_every_model_trains_by_its_path(tmp_path):
  write_ratings(tmp_path, 10)
  for file, name in (("models/wide_and_deep.py", "WideAndDeep"), ("models/dcn_v2.py", "DCNv2")):
    model = [f"--config.model.file={file}", f"--config.model.name={name}"]
    assert train("movietweetings", f"--config.data.folder={tmp_path}", *model).examples == 600


def test_models_of_histories_and_of_numbers(tmp_path):
  write_ratings(tmp_path, 5)
  summary = train("movielens_history", f"--config.data.folder={tmp_path}")
  assert summary.examples == 600
  # Seven slots, of which genres have two each; the histories read the movies' rows.
  assert summary.table["show"] == 600 * 8 and summary.table["slot_conflicts"] == 0
  # Or have their own: the 20 last of up to 30 movies rated 4 or more.
  own = train(
    "movielens_history", f"--config.data.folder={tmp_path}", "--config.model.args.share=False"
  )
  histories = sum(min(20, earlier) for earlier in _clicks_before_each_rating())
  assert own.table["show"] == 600 * 8 + histories and own.table["slot_conflicts"] == 0
  sasrec = train("movielens_sasrec", f"--config.data.folder={tmp_path}")
  assert sasrec.examples == 600 and sasrec.table["show"] == 600 * 2
  write_criteo(tmp_path)
  dlrm = ["--config.model.file=models/dlrm.py", "--config.model.name=DLRM"]
  files = ["--config.data.files=('train.tsv',)", f"--config.data.folder={tmp_path}"]
  assert train("criteo", *files, *dlrm).examples == 700


def _clicks_before_each_rating():
  for user, _, _, time in RATINGS:
    yield sum(one == user and rating >= 4 and at < time for one, _, rating, at in RATINGS)


@pytest.mark.parametrize("optimizer", ["SGD", "Adagrad", "StdAdagrad", "Adam", "FTRL"])
def test_every_sparse_optimizer_by_its_name(optimizer):
  _, config = cli_config.load(
    str(ROOT / "configs" / "quickstart.py"), [f"--config.mf_optimizer.name={optimizer}"]
  )
  module, _ = cli_config.load(str(ROOT / "configs" / "quickstart.py"))
  model_class = cli_config.load_attribute(
    config.model.file, config.model.name, base=cli_config.root(module)
  )
  table, _ = run.build(config, model_class, tf.distribute.get_strategy())
  assert type(table.optimizer).__name__ == optimizer


@pytest.mark.parametrize("name", ["movietweetings", "movielens", "criteo"])
def test_missing_data_ends_in_one_sentence(name, capsys):
  assert (
    cli.main(["train", f"--config={ROOT}/configs/{name}.py", "--config.data.folder=nowhere"]) == 1
  )
  error = capsys.readouterr().err.strip()
  assert error.startswith("tfps: error:") and "nowhere" in error and error.count("\n") == 0
  if name != "criteo":
    assert {"movietweetings": "MovieTweetings", "movielens": "grouplens.org"}[name] in error


@pytest.mark.parametrize(
  "override, words",
  [
    ("--config.mf_optimizer.name=Momentum", ["mf_optimizer", "Momentum", "Adagrad"]),
    (
      "--config.acessor.create_threshold=2",
      ["acessor.create_threshold", "accessor.create_threshold"],
    ),
    ("--config.batch_size=many", ["batch_size", "many"]),
    ("--config.accessor.decay_rate=2.0", ["decay_rate", "2.0"]),
    ("--config.model.file=models/none.py", ["models/none.py"]),
    ("--config.model.name=DeepF", ["DeepF", "DeepFM"]),
    ("--config.dense_optimizer.name=adm", ["dense_optimizer", "adm"]),
  ],
)
def test_wrong_settings_end_in_one_sentence(override, words, capsys):
  assert cli.main(["train", f"--config={ROOT}/configs/quickstart.py", override]) == 1
  error = capsys.readouterr().err.strip()
  assert error.startswith("tfps: error:") and error.count("\n") == 0
  assert all(word in error for word in words), error


def test_end_to_end_on_real_data_where_there_is_some():
  folder = pathlib.Path(os.environ.get("TFPS_DATA", ROOT.parent / "shared" / "data"))
  if not (folder / "movietweetings" / "ratings.dat").exists():
    pytest.skip(f"there is no MovieTweetings in {folder}; TFPS_DATA names another folder")
  summary = train("movietweetings", f"--config.data.folder={folder / 'movietweetings'}")
  assert summary.total.auc > 0.757
  assert len(summary.days) == 252 and summary.examples == 141_695


OWN_CALLBACKS = """
import sys
import tfps
sys.path.insert(0, {configs!r})
from quickstart import get_config, source

def callbacks(config, table):
  def write_down(rows):
    with open(config.summary_file + ".evicted", "a") as file:
      file.writelines(f"{{key}}\\n" for key in rows.keys)
  return [tfps.callbacks.EndOfDay(table, before_eviction=[write_down])]
"""


def test_callbacks_of_the_config_see_what_is_evicted(tmp_path):
  (tmp_path / "mine.py").write_text(OWN_CALLBACKS.format(configs=str(ROOT / "configs")))
  summary = tmp_path / "summary.json"
  code = cli.main([
    "train", f"--config={tmp_path / 'mine.py'}", f"--config.summary_file={summary}",
    "--config.data.days=2", "--config.data.examples_per_day=2000",
    f"--config.model.file={ROOT / 'models' / 'deepfm.py'}",
  ])  # fmt: skip
  assert code == 0
  evicted = (tmp_path / "summary.json.evicted").read_text().split()
  assert 0 < len(set(evicted)) <= len(evicted) == json.loads(summary.read_text())["evicted"]
