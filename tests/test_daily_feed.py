"""What feeds a day's training: held-out shares, down-sampled negatives and weights, in any cut."""

import gzip
import itertools
import re

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import strategies as st

import tfps
from models.deepfm import DeepFM
from tests import streams
from tests.feeds import dense, drawn, kept, lines_of, load, make, parse, read, write
from tfps.cli import config as cli_config
from tfps.data import DownSampling
from tfps.errors import ConfigError
from tfps.job import evaluate
from tfps.job import train as job

FIXTURE = hypothesis.HealthCheck.function_scoped_fixture


@hypothesis.settings(max_examples=3, suppress_health_check=[FIXTURE])
@hypothesis.given(
  st.lists(st.integers(0, 25), min_size=1, max_size=3), st.integers(1, 4), st.integers(1, 3),
  st.booleans(), st.booleans(),
)  # fmt: skip
def test_chosen_by_the_example_alone(tmp_path, counts, batch, batches, shuffle, gz):
  """Any cut into files, tickets and batches takes the examples that plain Python takes."""
  rng = np.random.default_rng(sum(counts))
  files = [lines_of(rng, count) for count in counts]
  paths = [write(tmp_path / f"{i}{'.gz' * gz}", part) for i, part in enumerate(files)]
  records = list(itertools.chain(*files))
  source = make(paths, batch_size=batch, batches_per_ticket=batches, shuffle=shuffle)
  train, held_out = source.split(0.3, by="user", salt=7)
  of_share = [drawn(7, user) < 0.3 for user, _, _ in records]
  in_order = sorted if shuffle else list
  assert in_order(read(held_out)) == in_order(r for r, held in zip(records, of_share) if held)
  assert in_order(read(train)) == in_order(r for r, held in zip(records, of_share) if not held)
  sampled = source.down_sample(DownSampling(0.4, seed=5))
  found = in_order(read(sampled.with_epoch(2)))
  assert found == in_order(kept(records, 0.4, seed=5, epoch=2))
  both = train.down_sample(DownSampling(0.4, seed=5)).weighted_by("w")
  left = set(kept(records, 0.4, seed=5))
  expected = [r for r, held in zip(records, of_share) if not held and r in left]
  assert in_order(read(both)) == in_order(expected)


def test_each_day_and_epoch_keeps_other_negatives(tmp_path):
  records = [(user, 0, user) for user in range(200)]
  days = {name: write(tmp_path / name, records) for name in ("mon", "tue")}
  source = make(days, batch_size=40).down_sample(DownSampling(0.5))
  found = {}
  for epoch in (0, 1):
    for day in (0, 1):
      view = source.with_epoch(epoch).day(day)
      found[day, epoch] = read(view)
      assert read(view.to_test()) == records
      assert found[day, epoch] == kept(records, 0.5, day=day, epoch=epoch)
  assert len({tuple(part) for part in found.values()}) == 4
  assert all(70 < len(part) < 130 for part in found.values())


def test_simulated_examples_are_chosen_alike():
  whole = tfps.data.ClickStream(days=1, examples_per_day=200, batch_size=100)
  cut = tfps.data.ClickStream(days=1, examples_per_day=200, batch_size=8, shuffle=True)

  def users(source):
    batches = [(x, y) for ticket in source.tickets() for x, y in source.open(ticket)]
    ids = np.concatenate([x["user_id"] for x, _ in batches])
    return sorted(zip(ids.tolist(), np.concatenate([y for _, y in batches])[:, 0].tolist()))

  sampling = DownSampling(0.3, seed=2)
  records = [(user, click) for user, click in zip(*_in_order(whole))]
  expected = kept(records, 0.3, seed=2)
  assert users(whole.down_sample(sampling)) == users(cut.down_sample(sampling)) == sorted(expected)
  train, held_out = cut.split(0.3, by=["user_id"])
  assert users(held_out) == sorted(r for r in records if drawn(0, r[0]) < 0.3)
  assert users(train) == sorted(r for r in records if drawn(0, r[0]) >= 0.3)


def _in_order(source):
  batches = [(x, y) for ticket in source.tickets() for x, y in source.open(ticket)]
  users = np.concatenate([x["user_id"] for x, _ in batches]).tolist()
  return users, np.concatenate([y for _, y in batches])[:, 0].tolist()


def test_a_stream_is_chosen_from(tmp_path):
  """Samples that arrive: a ticket that runs again, or is cut after a resume, has the same ones."""
  for i in range(2):
    streams.write(str(tmp_path / "in"), f"{i}.tfrecord", range(50 * i, 50 * i + 50), [100 + i] * 50)
  settings = dict(batch_size=4, batches_per_ticket=4, stop_after_idle=0.1)
  made = tfps.data.stream(str(tmp_path / "in"), streams.parse, **settings)
  train, held_out = made.split(0.3, by="user")
  sampled = train.down_sample(DownSampling(0.5, seed=9))
  reader = sampled.read()
  reader.next_day(0)
  tickets = list(iter(reader.next_ticket, None))
  users = lambda source, ticket: [
    int(user) for x, _ in source.open(ticket) for user in x["user"].numpy()
  ]
  assert sum(ticket.records for ticket in tickets) == 100
  for ticket in tickets:
    everything = [
      (user, float(label)) for x, y in made.open(ticket)
      for user, label in zip(x["user"].numpy().tolist(), y.numpy()[:, 0])
    ]  # fmt: skip
    assert users(held_out, ticket) == [user for user, _ in everything if drawn(0, user) < 0.3]
    assert users(sampled, ticket) == users(sampled, ticket) == [
      user for i, (user, label) in enumerate(everything)
      if drawn(0, user) >= 0.3
      and (label or drawn(9, 0, ticket.day, 0, ticket.sequence * 16 + i) < 0.5)
    ]  # fmt: skip
  for refused in (lambda: made.window(2), lambda: made.shuffled(pieces=2)):
    with pytest.raises(ValueError, match="stream"):
      refused()


class OwnBatches(tfps.data.ClickStream):
  """A source of a user's own, which says what its batches are."""

  def _batches(self, ticket):
    return super()._batches(ticket).map(lambda x, y: ({"user_id": x["user_id"]}, y))


def test_a_source_that_makes_batches_of_its_own():
  settings = dict(days=1, examples_per_day=100, batch_size=8, batches_per_ticket=3)
  own, source = OwnBatches(**settings), tfps.data.ClickStream(**settings)
  sampling = DownSampling(0.2)
  assert _in_order(own.down_sample(sampling)) == _in_order(source.down_sample(sampling))
  x, _ = next(iter(own.down_sample(sampling).open(next(own.tickets()))))
  assert list(x) == ["user_id"]


def test_bad_records_and_places_are_what_they_were(tmp_path):
  """Skipped records count, and an example is traced to its line, whatever else is left out."""
  records = lines_of(np.random.default_rng(3), 60)
  lines = [f"{user},{click},{weight}" for user, click, weight in records]
  bad = {4: "x,0,1", 17: "1,nan,1", 30: "1,0,-5", 59: "2"}
  for at, line in bad.items():
    lines[at] = line
  good = [r for i, r in enumerate(records) if i not in bad]
  for name in ("plain", "file.gz"):
    text = "\n".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name == "file.gz" else text)
    source = make(str(tmp_path / name), dense, on_bad_record="skip").weighted_by("w")
    sampled = source.split(0.4, by="user")[0].down_sample(DownSampling(0.5))
    places, skipped, examples = [], 0, []
    for ticket in sampled.tickets():
      reading = sampled.reading(ticket)
      batches = list(reading.batches)
      count = sum(len(y) for _, y, _ in batches)
      of_ticket = [int(w) for _, _, weight in batches for w in weight]
      skipped += reading.skipped(tf.constant(count, tf.int64)).counts.numpy().sum()
      examples += of_ticket
      places += [sampled.place_of_example(ticket, i) for i in range(count)]
    assert skipped == len(bad)
    taken = kept(list(zip(*zip(*records))), 0.5)
    assert examples == [r[2] for r in good if r in taken and drawn(0, r[0]) >= 0.4]
    if name == "plain":
      assert [int(re.search(r"line (\d+)", place)[1]) for place in places] == examples
  failing = make(str(tmp_path / "plain"), dense).weighted_by("w")
  ticket = list(failing.tickets())[5]
  with pytest.raises(tf.errors.InvalidArgumentError) as caught:
    list(failing.open(ticket))
  message = str(failing.explain(ticket, caught.value))
  assert "line 31 (" in message and "the weight is negative" in message


def test_weights_multiply_those_of_parse(tmp_path):
  path = write(tmp_path / "a", [(1, 0, 3), (2, 1, 5)])

  def weigh(lines):
    x, y = parse(lines)
    return x, {"a": y, "b": y}, {"a": tf.constant([2.0, 7.0]), "b": tf.constant([[1.0], [0.5]])}

  source = tfps.data.source(path, weigh).weighted_by("w")
  ((x, _, weight),) = [batch for ticket in source.tickets() for batch in source.open(ticket)]
  assert "w" not in x and "user" in x
  assert weight["a"].numpy().tolist() == [6, 35] and weight["b"].numpy().tolist() == [[3], [2.5]]


@pytest.mark.parametrize(
  "make_view, message",
  [
    (lambda s: s.split(0, by="user"), "share is 0; it must be a number above 0 and below 1"),
    (lambda s: s.split(1.0, by="user"), "share is 1.0"),
    (lambda s: s.split(0.1, by="user", salt=-1), "salt is -1; it must be a whole number"),
    (lambda s: s.split(0.1, by=()), "by is empty; name the feature"),
    (lambda s: s.split(0.1, by="usr"), "by names 'usr', which is no feature of x; these are user,"),
    (lambda s: s.split(0.1, by="w"), "'w', which is not one integer or text for each example"),
    (lambda s: s.split(0.1, by="tags"), "'tags', which is not one integer or text"),
    (lambda s: DownSampling(0), "rate is 0; it must be a number above 0, and 1 at most"),
    (lambda s: DownSampling(0.1, seed=-1), "seed is -1; it must be a whole number from 0"),
    (lambda s: DownSampling(0.1, also="buy"), "also is 'buy'; it must be a list"),
    (lambda s: s.down_sample(DownSampling(0.1, "clk")), "label is 'clk', which is none of the"),
    (
      lambda s: s.down_sample(DownSampling(0.1)).down_sample(DownSampling(0.1)),
      "the source is down-sampled already",
    ),
    (lambda s: s.weighted_by("weight"), "weight names 'weight', which is no feature of x"),
    (lambda s: s.weighted_by("tags"), "weight names 'tags', which is not one number"),
  ],
)
def test_what_does_not_fit_is_refused(tmp_path, make_view, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    make_view(make(write(tmp_path / "a", [(1, 0, 1)])))


def test_corrected_outputs():
  """The formula, for one output, a dict and a list; and what happens only with a click."""
  rate, ctr, cvr = 0.1, np.array([0.02, 0.3, 0.9]), np.array([0.5, 0.1, 0.8])
  kept_share = ctr + (1 - ctr) * rate  # Bayes' rule on the sampled data.
  p = tf.constant(ctr / kept_share)
  np.testing.assert_allclose(DownSampling(rate).correct(p), ctr, rtol=1e-12)
  outputs = {"ctr": p, "cvr": tf.constant(cvr), "ctcvr": tf.constant(ctr * cvr / kept_share)}
  corrected = DownSampling(rate, "ctr", also=["ctcvr"]).correct(outputs)
  for name, expected in {"ctr": ctr, "cvr": cvr, "ctcvr": ctr * cvr}.items():
    np.testing.assert_allclose(corrected[name], expected, rtol=1e-12)
  listed = DownSampling(rate, 1).correct([tf.constant(cvr), p])
  np.testing.assert_allclose(listed, [cvr, ctr], rtol=1e-12)
  for sampling, wrong, message in (
    (DownSampling(rate), outputs, "label is None, and the model's outputs are ctr, cvr, ctcvr"),
    (DownSampling(rate, "ctr", also=["buy"]), outputs, "also names 'buy', which is no output"),
    (DownSampling(rate), tf.zeros([3, 2]), "the model's output has 2 columns"),
  ):
    with pytest.raises(ValueError, match=message):
      sampling.correct(wrong)


def logistic(path, count, seed):
  """Writes records whose click has a probability that is known: (its logits by user)."""
  rng = np.random.default_rng(seed)
  truth = np.linspace(-4, -1, 40)
  users = rng.integers(40, size=count)
  clicks = rng.random(count) < 1 / (1 + np.exp(-truth[users]))
  write(path, [(int(user), int(click), 1) for user, click in zip(users, clicks)])
  return 1 / (1 + np.exp(-truth))


def test_predictions_are_those_of_all_data(tmp_path):
  """A logistic model of sampled data predicts the true probabilities, and is trained on others."""
  truth = logistic(tmp_path / "a", 60_000, 1)
  sampling = DownSampling(0.2, seed=3)

  def one_hot(lines):
    x, y = parse(lines)
    return {"user": tf.one_hot(x["user"], 40)}, y

  source = tfps.data.source(str(tmp_path / "a"), one_hot, batch_size=500, batches_per_ticket=40)
  inputs = {"user": keras.Input([40], name="user")}
  model = tfps.Model(inputs, keras.layers.Dense(1, "sigmoid", use_bias=False)(inputs["user"]))
  model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy")
  with pytest.raises(ValueError, match="set the model's down_sampling to the source's before"):
    model.fit(source.down_sample(sampling), verbose=0)
  model.down_sampling = sampling
  model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy")
  with pytest.raises(ValueError, match=r"validation_data leaves out .* source.to_test\(\)"):
    model.fit(source.down_sample(sampling), validation_data=source.down_sample(sampling))
  with pytest.raises(ValueError, match="the source has down_sampling None, and model"):
    model.fit(source, verbose=0)
  throughput = tfps.callbacks.Throughput()
  model.fit(source.down_sample(sampling), epochs=6, callbacks=[throughput], verbose=0)
  assert throughput.examples == sum(
    len(y) for e in range(6) for t in source.down_sample(sampling).with_epoch(e).tickets()
    for _, y in source.down_sample(sampling).open(t)
  )  # fmt: skip
  x = {"user": np.eye(40, dtype=np.float32)}
  predicted = model.predict(x, verbose=0)[:, 0]
  # Some 1,500 records for each user: their own rates lie three to four such steps from the truth.
  noise = np.sqrt(truth * (1 - truth) / 1500)
  assert np.all(np.abs(predicted - truth) < 4 * noise + 0.01), (predicted - truth) / noise
  scores = np.concatenate([part["y_pred"] for part in model.score(source)])
  labels = np.concatenate([part["y"] for part in model.score(source)])
  assert abs(scores.sum() / labels.sum() - 1) < 0.05
  with pytest.raises(ValueError, match=r"give source.to_test\(\)"):
    model.evaluate(source.down_sample(sampling), verbose=0)
  # The loss in training is that of the predictions on sampled data.
  raw = model(x, training=True).numpy()[:, 0]  # It has no table, whose rows only a step pulls.
  np.testing.assert_allclose(raw, truth / (truth + (1 - truth) * 0.2), atol=0.08)
  np.testing.assert_allclose(predicted, raw / (raw + (1 - raw) / 0.2), rtol=1e-5)


def test_what_is_served_is_corrected(tmp_path):
  """A base answers with the trainer's own corrected predictions."""
  source = tfps.data.ClickStream(days=1, examples_per_day=4_000)
  sampling = DownSampling(0.3)
  accessor = tfps.CtrAccessor(create_threshold=1, base_update_threshold=0)
  table = tfps.FeasignTable("ctr", mf_dim=4, accessor=accessor)
  model = DeepFM(table, slots=list(source.slots), hidden=[8])
  model.down_sampling = sampling
  model.compile("adam", "binary_crossentropy")
  model.fit(source.down_sample(sampling), epochs=2, verbose=0)
  path = tfps.export.Exporter(model, tmp_path, source.raw_inputs).base()
  session = tfps.export.SavedModelSession(path)
  raw = source.raw_inputs.sample(0, 300)
  served = session.run(raw)["predictions"]
  session.close()
  x = source.raw_inputs.features({name: tf.constant(value) for name, value in raw.items()})
  np.testing.assert_allclose(served, model.predict_on_batch(x), atol=1e-6, rtol=0)
  model.down_sampling = None
  sampled = model(x, training=False).numpy()
  np.testing.assert_allclose(served, sampled / (sampled + (1 - sampled) / 0.3), atol=1e-5)


def run(*overrides):
  module, config = load(*overrides)
  return job.run(config, module.source(config), cli_config.model_class(module, config))


def test_a_run_by_its_config(capsys):
  """Held-out users, sampled negatives: what is trained, tested and counted, by the config alone."""
  chosen = ["--config.held_out.share=0.25", "--config.held_out.by=('user_id',)"]
  summary = run(*chosen, "--config.negatives.rate=0.25", "--config.epochs=3")
  module, config = load(*chosen, "--config.negatives.rate=0.25")
  train, held_out = module.source(config).split(0.25, by="user_id")
  sampled = train.down_sample(DownSampling(0.25, seed=config.seed))
  sizes = lambda s: [sum(len(y) for t in s.tickets(d) for _, y in s.open(t)) for d in s.days()]
  assert [day.records for day, _ in summary.days] == sizes(train)
  assert len(summary.epochs) == 3 and summary.epochs[-1]["auc"] > 0.55
  assert summary.examples == sum(sum(sizes(sampled.with_epoch(epoch))) for epoch in range(3))
  # Of all examples one in six is a click; of the sampled ones nearly one in two.
  assert 0.85 < summary.days[1][1].calibration < 1.15
  scored = evaluate.evaluation_source(config, module)
  assert sizes(scored) == sizes(held_out)
  _, config = load("--config.negatives.rate=0.25")
  scored = evaluate.evaluation_source(config, module)
  assert [day.name for day in scored.days()] == ["day-1"] and sum(sizes(scored)) == 6_000


@pytest.mark.parametrize(
  "override, message",
  [
    ("--config.held_out.share=2.0", "config.held_out: share is 2.0; it must be a number above 0"),
    ("--config.held_out.share=0.1", "config.held_out: by is empty; name the feature"),
    ("--config.negatives.rate=0.0", "config.negatives: rate is 0.0; it must be a number above 0"),
    ("--config.weight=importance", "config.weight names 'importance', which is no feature of x"),
  ],
)
def test_a_wrong_field_ends_in_one_sentence(override, message):
  with pytest.raises(ConfigError, match=re.escape(message)):
    run(override)
