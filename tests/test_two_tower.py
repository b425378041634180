"""Two towers: the loss, what they learn, both served after deltas, and an index of the items."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from examples.two_towers.index import ItemIndex
from models.two_tower import TwoTower
from tests.test_fold import apply

USERS, ITEMS, GROUPS = 240, 180, 6
USER_SLOTS, ITEM_SLOTS = ["user_id", "group"], ["item_id", "kind"]
RAWS = {
  name: tfps.data.RawInputs(
    {slot: tf.TensorSpec([None], tf.int64) for slot in slots},
    lambda raw: {slot: tfps.feasign(slot, values) for slot, values in raw.items()},
  )
  for name, slots in (("user", USER_SLOTS), ("item", ITEM_SLOTS))
}
ITEM_IDS = np.arange(1, ITEMS + 1)
ALL_ITEMS = {"item_id": ITEM_IDS, "kind": ITEM_IDS % 60}


def clicks(rng, size):
  """(raw features, the clicked item's index): users click items of their group, popular ones more.

  The features say neither the item's group nor, for most users, theirs.
  """
  user = rng.integers(1, USERS + 1, size)
  place = np.minimum(rng.geometric(0.08, size) - 1, ITEMS // GROUPS - 1)
  # Some items are popular with everybody.
  group = np.where(rng.random(size) < 0.85, user % GROUPS, 0)
  item = place * GROUPS + group
  raw = {"user_id": user, "group": user % 2, "item_id": ITEM_IDS[item], "kind": ITEM_IDS[item] % 60}
  return raw, item


def features(raw):
  return {slot: tfps.feasign(slot, tf.constant(values, tf.int64)) for slot, values in raw.items()}


def make_model(**settings):
  keras.utils.set_random_seed(1)
  accessor = tfps.CtrAccessor(
    create_threshold=0, base_update_threshold=0, delta_update_threshold=0.01
  )
  table = tfps.FeasignTable(
    "towers", mf_dim=8, accessor=accessor, optimizer=tfps.Adagrad(learning_rate=0.5),
    mf_init_range=0.1,
  )  # fmt: skip
  settings = {"hidden": [16], "dim": 8, "temperature": 0.2, **settings}
  model = TwoTower(table, USER_SLOTS, ITEM_SLOTS, **settings)
  model.compile(keras.optimizers.Adam(0.01))
  return model, table


def train(model, rng, steps=1, size=128):
  for _ in range(steps):
    model.train_on_batch(features(clicks(rng, size)[0]), np.ones([size, 1], np.float32))


def softmax_loss(user, item, log_q, ids, weight, temperature, hard=0):
  """The loss as the paper has it, pair by pair; with so many hardest negatives, or all."""
  losses = []
  for i in range(len(ids)):
    scores = item.astype(np.float64) @ user[i] / temperature - log_q
    others = [j for j in range(len(ids)) if ids[j] != ids[i]]
    if hard:
      others = sorted(others, key=lambda j: -scores[j])[:hard]
    chosen = scores[[i, *others]]
    losses.append(weight[i] * (np.log(np.exp(chosen).sum()) - scores[i]))
  return np.mean(losses)


@pytest.mark.parametrize("hard", [0, 2, 50])
def test_the_loss_is_the_softmax_over_the_other_items_of_the_batch(hard):
  rng = np.random.default_rng(0)
  model, _ = make_model(hard_negatives=hard, hard_weight=0.3)
  user, item = (rng.normal(size=[9, 8]).astype(np.float32) / 3 for _ in range(2))
  log_q = rng.normal(size=9).astype(np.float32)
  ids = np.array([1, 2, 3, 2, 5, 1, 7, 8, 2])
  y = rng.binomial(1, 0.6, [9, 1]).astype(np.float32)
  weight = rng.uniform(0, 2, 9).astype(np.float32)
  found = model.compute_loss(
    {"item_id": tf.constant(ids)}, y, {"user": user, "item": item, "log_q": log_q}, weight
  )
  arguments = user, item, log_q, ids, y[:, 0] * weight, 0.2
  expected = softmax_loss(*arguments)
  if hard:
    expected += 0.3 * softmax_loss(*arguments, hard)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_q_is_the_tables_own_share_of_shows():
  model, table = make_model(prior_shows=1.0)
  rng = np.random.default_rng(0)
  raw, _ = clicks(rng, 300)
  assert not model(features(raw))["log_q"].numpy().any()
  # Sampled negatives have weight 0: they are in the softmax, and add no show.
  weight = np.arange(300) % 2
  model.train_on_batch(features(raw), np.ones([300, 1], np.float32), sample_weight=weight)
  shows = np.bincount(raw["item_id"], weight, minlength=ITEMS + 1)
  np.testing.assert_allclose(
    model(features(raw))["log_q"], np.log(shows[raw["item_id"]] + 1), atol=1e-6
  )
  assert table.statistics()["show"] == 4 * weight.sum()
  without, _ = make_model(log_q=False)
  assert without.item.embedding.reads_statistics is False
  assert not without(features(raw))["log_q"].numpy().any()
  with pytest.raises(ValueError, match="item_id is 'movie', which is not one of item_slots"):
    make_model(item_id="movie")


@pytest.mark.parametrize("hard", [0, 20])
def test_it_finds_more_than_the_most_popular_items_do(hard):
  model, _ = make_model(hard_negatives=hard)
  rng = np.random.default_rng(0)
  seen = np.zeros(ITEMS)
  for _ in range(150):
    raw, item = clicks(rng, 128)
    np.add.at(seen, item, 1)
    model.train_on_batch(features(raw), np.ones([128, 1], np.float32))
  raw, item = clicks(rng, 2000)
  users = model.user.predict_on_batch(features({slot: raw[slot] for slot in USER_SLOTS}))
  items = model.item.predict_on_batch(features(ALL_ITEMS))
  found = tfps.evaluation.recall_at_k(users, item, items, ks=[10, 30])
  popular = np.mean(np.isin(item, np.argsort(-seen)[:10]))
  assert 0.1 < popular < 0.35
  assert found[10] > popular + 0.1 and found[30] > found[10]


def test_a_history_of_the_user_reads_the_rows_of_the_items():
  _, table = make_model()
  model = TwoTower(table, [*USER_SLOTS, "history"], ITEM_SLOTS, hidden=[], history=["history"])
  model.compile("adam")
  rng = np.random.default_rng(2)
  raw = clicks(rng, 64)[0]
  x = features(raw)
  history = np.stack([raw["item_id"], rng.permutation(raw["item_id"])], axis=1)
  x["history"] = tfps.feasign("item_id", history)
  for _ in range(2):
    model.train_on_batch(x, np.ones([64, 1], np.float32))
  assert "history" not in table.slots and table.statistics()["show"] == 2 * 4 * 64
  found = table.lookup(x["history"].numpy().reshape(-1))
  np.testing.assert_allclose(
    model.user.embedding(x).mf[:, 2], found["mf_w"].reshape(64, 2, -1).mean(axis=1), atol=1e-6
  )


def test_recall_is_that_of_sorting_all_scores():
  rng = np.random.default_rng(0)
  users, items = rng.normal(size=[70, 4]), rng.normal(size=[50, 4])
  clicked = rng.integers(0, 50, 70)
  order = np.argsort(-(users.astype(np.float32) @ items.astype(np.float32).T), axis=1)
  place = np.argmax(order == clicked[:, np.newaxis], axis=1)
  expected = {k: np.mean(place < k) for k in (1, 5, 50)}
  for blocks in ({}, {"block_items": 7, "block_users": 16}):
    assert tfps.evaluation.recall_at_k(users, clicked, items, [1, 5, 50], **blocks) == expected
  # Equal vectors find nothing by luck.
  assert tfps.evaluation.recall_at_k(users, clicked, np.ones([50, 4]), [49, 50]) == {49: 0, 50: 1}
  for change, words in [
    ({"items": items[:, :3]}, "give vectors of one length"),
    ({"clicked": clicked[1:]}, "give one item for each user"),
    ({"clicked": clicked + 40}, "there are 50 items"),
    ({"users": users[:0], "clicked": []}, "there are 0 users"),
  ]:
    arguments = {"users": users, "clicked": clicked, "items": items, **change}
    with pytest.raises(ValueError, match=words):
      tfps.evaluation.recall_at_k(**arguments)


def test_both_towers_serve_what_the_trainer_has_and_the_index_follows(tmp_path):
  model, _ = make_model()
  rng = np.random.default_rng(0)
  train(model, rng, 5)
  towers = {"user": model.user, "item": model.item}
  exporter = tfps.export.Exporter(towers, tmp_path, RAWS)
  bases = exporter.base()
  sessions = {name: tfps.export.SavedModelSession(path) for name, path in bases.items()}
  index = ItemIndex(bases["item"], RAWS["item"], ALL_ITEMS)
  raw, _ = clicks(rng, 100)
  of_user = {slot: raw[slot] for slot in USER_SLOTS}
  model.user.tower.trainable = model.item.tower.trainable = False
  model.compile(keras.optimizers.Adam(0.01))  # Until the last delta the dense weights stay.
  for number in range(1, 4):
    if number == 3:
      model.user.tower.trainable = model.item.tower.trainable = True
      model.compile(keras.optimizers.Adam(0.01))
    before = index.vectors.copy()
    train(model, rng, 1, size=20)
    deltas = exporter.delta()
    for name, path in deltas.items():
      apply(sessions[name], path)
    users = model.user.predict_on_batch(features(of_user))
    items = model.item.predict_on_batch(features(ALL_ITEMS))
    served = sessions["user"].run(of_user)["predictions"]
    np.testing.assert_allclose(served, users, atol=1e-6, rtol=0)
    served = sessions["item"].run(ALL_ITEMS)["predictions"]
    np.testing.assert_allclose(served, items, atol=1e-6, rtol=0)
    changed = index.apply(deltas["item"])
    if number == 3:
      index.refresh()
    else:
      assert 0 < np.abs(index.vectors - before).max(axis=1).astype(bool).sum() <= len(changed)
      assert len(changed) < ITEMS
    np.testing.assert_allclose(index.vectors, items, atol=1e-6, rtol=0)
    scores = users @ items.T
    found = np.take_along_axis(scores, index.search(users, 5), axis=1)
    np.testing.assert_allclose(found, -np.sort(-scores, axis=1)[:, :5], atol=1e-5)
  for session in sessions.values():
    session.close()
