"""Slots with policies of their own: tfps.SlotPolicy, from the config to the checkpoint."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tfps.job.table import make_table
from tfps.training import config as training_config

USER = tfps.SlotPolicy(
  mf_dim=3,
  accessor=tfps.CtrAccessor(create_threshold=2.0, delete_threshold=3.0, decay_rate=0.5),
  lr_optimizer=tfps.FTRL(0.1),
)
ITEM = tfps.SlotPolicy(mf_dim=6, optimizer=tfps.Adam(0.02))
SETTINGS = dict(
  mf_dim=2,
  accessor=tfps.CtrAccessor(create_threshold=0.0, delete_threshold=0.0),
  optimizer=tfps.Adagrad(0.1),
  mf_init_range=0.5,
  num_shards=16,
)
POLICIES = {"user": USER, "item": ITEM}


def shared_table(policies=POLICIES, **arguments):
  return tfps.FeasignTable("shared", slot_policies=policies, **{**SETTINGS, **arguments})


def table_of(policy):
  """A table of which all slots have what the policy makes of the shared table's settings."""
  own = {name: value for name, value in vars(policy).items() if value is not None}
  lr_optimizer = SETTINGS["optimizer"]  # Not the policy's optimizer.
  return tfps.FeasignTable("alone", **{**SETTINGS, "lr_optimizer": lr_optimizer, **own})


class Clicks(tfps.Model):
  """p(click) from the lr weights and mf vectors of each slot of each layer, as long as they are."""

  def __init__(self, *layers):
    super().__init__()
    self.embeddings = list(layers)
    self.dense = keras.layers.Dense(1)

  def call(self, x, training=None):
    lr, mf = [], []
    for layer in self.embeddings:
      output = layer(x, training=training)
      for i, slot in enumerate(layer.slots):
        lr.append(output.lr[:, i : i + 1])
        mf.append(output.mf[:, i, : layer.table.mf_dim_of(slot)])
    return tf.sigmoid(tf.add_n(lr) + self.dense(tf.concat(mf, axis=1)))


def examples(day):
  rng = np.random.default_rng(day)
  ids = {"user": rng.integers(1, 40, 256), "item": rng.integers(20 * day, 20 * day + 60, 256)}
  clicks = rng.binomial(1, 0.2 + 0.6 * (ids["user"] % 2)).astype(np.float32)[:, None]
  return {slot: tfps.feasign(slot, values) for slot, values in ids.items()}, clicks


def keys_of(slot, days=3):
  return np.unique(np.concatenate([examples(day)[0][slot] for day in range(days)]))


def compiled(*layers):
  keras.utils.set_random_seed(1)
  model = Clicks(*layers)
  # Makes the dense weights.
  model({slot: tf.constant([1]) for layer in layers for slot in layer.slots})
  model.compile("sgd", "binary_crossentropy")
  return model


def train(model, tables, days):
  for day in days:
    model.fit(*examples(day), batch_size=64, shuffle=False, verbose=0)
    for table in tables:
      table.end_of_day(day)


def assert_rows(table, keys, other, exact=False):
  """Both tables hold the same rows, but for the slots' numbers and the zeros at their ends.

  Floats agree to the rounding of the dense layers, whose order of additions TensorFlow chooses, or
  exactly.
  """
  rows, others = table.lookup(keys), other.lookup(keys)
  assert rows["admitted"].sum() > 0 and rows["found"].any()
  for name in rows.keys() - {"slot"}:
    one, two = rows[name], others[name]
    if name in ("lr_state", "mf_w", "mf_state"):
      width = min(one.shape[1], two.shape[1])
      assert not one[:, width:].any() and not two[:, width:].any(), name
      one, two = one[:, :width], two[:, :width]
    exactly = exact or name in ("found", "admitted", "served", "unseen_days", "statistics")
    tolerance = dict(rtol=0, atol=0) if exactly else dict(rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one, two, err_msg=name, **tolerance)


@pytest.mark.parametrize("slots_of_layers", [
  [["user", "item"]], [["user"], ["item"]], [["item"], ["user", "item"]], [["user"], ["item",
  "user"]]])  # fmt: skip
def test_a_slot_trains_as_it_would_in_a_table_of_its_own(slots_of_layers):
  shared, alone = shared_table(), {slot: table_of(policy) for slot, policy in POLICIES.items()}
  model = compiled(*(tfps.Embedding(shared, slots) for slots in slots_of_layers))
  other = compiled(
    *(tfps.Embedding(alone[slot], [slot]) for slots in slots_of_layers for slot in slots)
  )
  train(model, [shared], range(3))
  train(other, alone.values(), range(3))
  for slot, table in alone.items():
    assert_rows(shared, keys_of(slot), table)
  statistics = [table.statistics() for table in (shared, *alone.values())]
  for name in ("rows", "admitted", "evicted"):
    assert statistics[0][name] == statistics[1][name] + statistics[2][name] > 0
  assert statistics[0]["slot_conflicts"] == 0


def test_a_layer_is_as_wide_as_the_widest_of_its_slots():
  table = shared_table()
  assert [table.mf_dim_of(slot) for slot in ("user", "item", "city")] == [3, 6, 2]
  assert (table.mf_dim, table.row_width) == (2, 7)
  for slots, mf_dim in [(["user"], 3), (["city"], 2), (["city", "user"], 3), (["item", "city"], 6)]:
    layer = tfps.Embedding(table, slots)
    assert layer.mf_dim == mf_dim
    assert layer({slot: tf.constant([1, 2]) for slot in slots}).mf.shape == [2, len(slots), mf_dim]
  layer = tfps.Embedding(table, ["city"], combiner=None)
  output = layer({"city": tf.constant([[1, 2, 3]])})
  assert (output.mf.shape, output.sequences["city"].shape) == ([1, 0, 2], [1, 3, 2])


def test_beyond_its_own_mf_vector_a_slot_reads_zeros():
  table = shared_table()
  model = compiled(tfps.Embedding(table, ["user", "item"]))
  train(model, [], [0])
  mf = model.embeddings[0](examples(0)[0]).mf.numpy()
  assert np.all(np.any(mf[:, 0, :3], axis=0)) and not mf[:, 0, 3:].any()
  assert np.all(np.any(mf[:, 1], axis=0))


def test_slots_with_a_policy_have_their_numbers_from_the_start():
  table = shared_table({"b": ITEM, "a": tfps.SlotPolicy()})
  assert table.slots == {"b": 1, "a": 2}
  tfps.Embedding(table, ["c", "a"])
  assert table.slots == {"b": 1, "a": 2, "c": 3}
  assert table.slot_policies == {"b": ITEM, "a": tfps.SlotPolicy()}
  assert table.policy_of("b").lr_optimizer == SETTINGS["optimizer"]
  assert table.policy_of("a") == table.policy_of("c")
  pairs = dict(pair.split("=") for pair in table.options.split(";"))
  assert pairs["slot.1.mf_dim"] == "6" and pairs["slot.1.mf.optimizer"] == "adam"
  assert not any(name.startswith(("slot.1.lr", "slot.1.accessor", "slot.2")) for name in pairs)


@pytest.mark.parametrize("make, words", [
  (lambda: tfps.SlotPolicy(mf_dim=0), "SlotPolicy.mf_dim .* not 0"),
  (lambda: tfps.SlotPolicy(mf_dim="8"), "SlotPolicy.mf_dim .* not '8'"),
  (lambda: tfps.SlotPolicy(optimizer="adam"),
  "SlotPolicy.optimizer must be a SparseOptimizer, not 'adam'"),
  (lambda: tfps.SlotPolicy(accessor=tfps.Adam()), "SlotPolicy.accessor must be a CtrAccessor"),
  (lambda: shared_table({"user": {"mf_dim": 3}}), "slot name: tfps.SlotPolicy.*'user'"),
  (lambda: shared_table({1: USER}), "slot name: tfps.SlotPolicy.*1"),
])  # fmt: skip
def test_bad_policies_are_named(make, words):
  with pytest.raises(ValueError, match=words):
    make()


def test_a_slot_whose_rows_are_too_large():
  with pytest.raises(tf.errors.InvalidArgumentError, match="slot.1.mf_dim=4000 is too large"):
    shared_table({"user": tfps.SlotPolicy(mf_dim=4000, optimizer=tfps.Adam())})


def test_the_ops_take_rows_as_wide_as_the_widest_slot():
  table = shared_table()
  for width in (1, 8):
    with pytest.raises(tf.errors.InvalidArgumentError, match="row_width"):
      table.pull([[1]], width)
    with pytest.raises(
      tf.errors.InvalidArgumentError, match=f"gradients must be from 2 to 7 .* not {width}"
    ):
      table.push([([1], [1], [1.0], [0.0], np.zeros([1, width], np.float32))])


def test_models_come_back_bit_for_bit(tmp_path):
  def start(policies):
    table = shared_table(policies)
    return table, compiled(tfps.Embedding(table, ["user", "item", "city"]))

  def with_city(day):
    x, y = examples(day)
    return x | {"city": tfps.feasign("city", np.arange(256) % 9)}, y

  def go_on(model, table, day):
    model.fit(*with_city(day), batch_size=64, shuffle=False, verbose=0)
    table.end_of_day(day)

  table, model = start(POLICIES)
  go_on(model, table, 0)
  tfps.checkpoint.CheckpointManager(str(tmp_path), model, [table]).save({})
  other, other_model = start(dict(reversed(POLICIES.items())))  # The slots have other numbers.
  tfps.checkpoint.CheckpointManager(str(tmp_path), other_model, [other]).restore()
  keys = [*keys_of("user"), *keys_of("item"), *tfps.feasign("city", np.arange(9))]
  assert_rows(table, keys, other, exact=True)
  for one, two in zip(model.get_weights(), other_model.get_weights(), strict=True):
    np.testing.assert_array_equal(one, two)
  for day in (1, 2):
    go_on(model, table, day)
    go_on(other_model, other, day)
    assert_rows(table, keys, other)


@pytest.mark.parametrize("policies, words", [
  ({"user": USER}, "slot 'item' .* mf_dim=6 and now has mf_dim=2"),
  ({"item": ITEM, "user": tfps.SlotPolicy(mf_dim=4)},
  "slot 'user' .* mf_dim=3 and now has mf_dim=4"),
  ({**POLICIES, "user": tfps.SlotPolicy(mf_dim=3)},
  "slot 'user' .* lr.optimizer=ftrl and now has lr.optimizer=adagrad"),
  ({**POLICIES, "city": ITEM}, "slot 'city' .* mf_dim=2 and now has mf_dim=6"),
])  # fmt: skip
def test_a_slot_that_does_not_fit_a_checkpoint(policies, words, tmp_path):
  def manager(policies):
    table = shared_table(policies)
    model = compiled(tfps.Embedding(table, ["city", "user", "item"]))
    return tfps.checkpoint.CheckpointManager(str(tmp_path), model, [table])

  manager(POLICIES).save({})
  manager({name: POLICIES[name] for name in ("item", "user")}).restore()
  with pytest.raises(tfps.checkpoint.CheckpointError, match=words):
    manager(policies).restore()


def config_with(slot_policies):
  config = training_config.default_config()
  config.slots = ("user", "item", "city")
  config.accessor.decay_rate = 0.9
  config.mf_optimizer.learning_rate = 0.2
  config.slot_policies = slot_policies
  return config


def test_a_config_may_hold_policies():
  table = make_table(config_with({
    "user": {"mf_dim": 4, "accessor": {"create_threshold": 3.0},
    "mf_optimizer": {"learning_rate": 0.3}},
    "item": {"mf_optimizer": {"name": "Adam"}, "lr_optimizer": {"name": "FTRL", "l1": 0.5}},
  }))  # fmt: skip
  assert table.slot_policies == {
    "user": tfps.SlotPolicy(
      mf_dim=4,
      accessor=tfps.CtrAccessor(create_threshold=3.0, decay_rate=0.9),
      optimizer=tfps.Adagrad(0.3),
    ),
    "item": tfps.SlotPolicy(optimizer=tfps.Adam(), lr_optimizer=tfps.FTRL(l1=0.5)),
  }
  assert table.policy_of("item").mf_dim == 8
  assert not make_table(config_with({})).slot_policies


@pytest.mark.parametrize("slot_policies, words", [
  ({"usr": {"mf_dim": 4}},
  r"config.slot_policies names 'usr', but config.slots has user, .*'user'"),
  ({"user": {"mf_dmi": 4}}, r"config.slot_policies.user names 'mf_dmi', but .* 'mf_dim'"),
  ({"user": 4}, r"config.slot_policies.user must be a group of fields, not 4"),
  ({"user": {"mf_dim": 0}}, r"config.slot_policies.user: .*mf_dim"),
  ({"user": {"accessor": {"treshold": 4}}}, r"config.slot_policies.user.accessor names 'treshold'"),
  ({"user": {"accessor": {"decay_rate": 4}}}, r"config.slot_policies.user.accessor: .*decay_rate"),
  ({"user": {"accessor": 4}}, r"config.slot_policies.user.accessor must be a group"),
  ({"user": {"mf_optimizer": {"name": "Momentum"}}},
  r"slot_policies.user.mf_optimizer.name must be"),
  ({"user": {"mf_optimizer": {"l1": 1.0}}}, r"config.slot_policies.user.mf_optimizer: Adagrad"),
])  # fmt: skip
def test_bad_policies_of_a_config_are_named(slot_policies, words):
  with pytest.raises(ValueError, match=words):
    make_table(config_with(slot_policies))
