"""Loss in AUC when a slot is shuffled: what is shuffled, and what is reported."""

import json
import pathlib
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from sklearn.metrics import roc_auc_score

import tfps
from models.deepfm import DeepFM
from tfps.cli import main
from tfps.evaluation import importance

ROOT = pathlib.Path(__file__).resolve().parents[1]
SLOTS = ["user_id", "category", "tags"]


def test_rows_of_every_kind_of_feature_are_shuffled_alike():
  order = np.array([2, 0, 3, 1])
  lists = [[1], [], [2, 3], [4, 5, 6]]
  ragged = tf.ragged.constant(lists, dtype=tf.int64)
  expected = [lists[i] for i in order]
  assert importance._taken(ragged, order).to_list() == expected
  sparse = importance._taken(ragged.to_sparse(), order)
  assert tf.RaggedTensor.from_sparse(sparse).to_list() == expected
  dense = importance._taken(ragged.to_tensor(), order)
  assert (dense.numpy() == tf.ragged.constant(expected).to_tensor().numpy()).all()


@pytest.fixture(name="trained", scope="module")
def _trained():
  keras.utils.set_random_seed(1)
  accessor = tfps.CtrAccessor(create_threshold=1)
  table = tfps.FeasignTable("test", mf_dim=2, accessor=accessor)
  model = DeepFM(table, SLOTS, hidden=[4])
  model.compile("adam", "binary_crossentropy")
  source = tfps.data.ClickStream(
    days=2, examples_per_day=3000, batch_size=100, batches_per_ticket=10
  )
  model.fit(source, verbose=0)
  return model, source


def test_the_loss_is_that_of_the_examples_with_one_slot_shuffled(trained):
  model, source = trained
  found = importance.shuffle_slots(model, source, ["user_id", "tags+category", "hour"], seed=3)
  labels, whole, shuffled = [], [], {"user_id": [], "tags+category": []}
  for ticket in source.tickets():
    batches = list(source.open(ticket))
    join = lambda *parts: np.concatenate([part.numpy() for part in parts])
    x, y = tf.nest.map_structure(join, *batches)
    labels.append(y)
    whole.append(model.predict(x, verbose=0))
    for group, predictions in shuffled.items():
      key = [3, ticket.day, ticket.sequence, 0, zlib.crc32(group.encode())]
      order = np.random.default_rng(key).permutation(len(y))
      other = {**x, **{slot: x[slot][order] for slot in group.split("+")}}
      predictions.append(model.predict(other, verbose=0))
  auc = lambda predictions: roc_auc_score(np.concatenate(labels), np.concatenate(predictions))
  assert found.examples == 6000
  assert found.whole[""].auc == pytest.approx(auc(whole), abs=1e-4)
  ranking = found.ranking("")
  for slot, of_slot, lost in ranking:
    expected = auc(shuffled[slot]) if slot in shuffled else auc(whole)
    assert of_slot == pytest.approx(expected, abs=1e-4), slot
    assert lost == found.whole[""].auc - of_slot
  assert [slot for slot, *_ in ranking][-1] == "hour"  # The model does not read it.
  assert ranking[-1][2] == 0 and ranking[0][2] > 0.02


def test_what_cannot_be_shuffled_is_refused(trained):
  model, source = trained
  with pytest.raises(ValueError, match="no feature 'userid' .did you mean 'user_id'"):
    importance.shuffle_slots(model, source, ["tags+userid"])
  with pytest.raises(ValueError, match="there is nothing to score"):
    importance.shuffle_slots(model, source, ["tags"], tickets=[])


def test_the_command(tmp_path, capsys):
  config = [
    f"--config={ROOT / 'configs' / 'quickstart.py'}", "--config.data.days=2",
    "--config.data.examples_per_day=4000", f"--config.checkpoint.folder={tmp_path}",
    "--config.model.args.hidden=(4,)",
  ]  # fmt: skip
  assert main.main(["train", *config, "--config.progressive_test=False"]) == 0
  capsys.readouterr()
  command = ["importance", str(tmp_path), *config, "--max-examples=0"]
  assert main.main([*command, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["checkpoint"] == f"{tmp_path}/checkpoint-2" and found["examples"] == 4000
  lost = [row["auc_lost"] for row in found["slots"]]
  assert lost == sorted(lost, reverse=True) and len(lost) == 7 and lost[0] > 0.01
  assert main.main([*command, "--slots", "user_id", "hour"]) == 0
  title, head, none, *rows = capsys.readouterr().out.splitlines()
  assert title.endswith("checkpoint-2 (day-1 has ended), 4,000 examples:")
  assert head.split() == ["slot", "shuffled", "AUC", "loss", "in", "AUC"]
  assert none.split() == ["none", f"{found['auc']:.4f}"]
  by_slot = {row["slot"]: row for row in found["slots"]}
  for row in rows:
    slot, auc, loss = row.split()
    assert (auc, loss) == tuple(f"{by_slot[slot][name]:.4f}" for name in ("auc", "auc_lost"))
  assert main.main([*command, "--slots", "users"]) == 1
  assert "no feature 'users'" in capsys.readouterr().err
