"""Every argument of compile, fit, evaluate and predict."""

import tf_keras as keras

from tests.keras_judge import data
from tests.keras_judge.feature import Features
from tests.keras_judge.models import compiled, wide

QUEUES = "of generators; no effect"
COMPILE, FIT = Features("arguments of compile"), Features("arguments of fit")
EVALUATE, PREDICT = Features("arguments of evaluate"), Features("arguments of predict")


# What most of the arguments are about, in one program.
@COMPILE.add("optimizer", "loss", "metrics", "weighted_metrics", cluster=True)
@FIT.add("x", "epochs", "validation_data", cluster=True)
@EVALUATE.add("x", cluster=True)
@PREDICT.add("x", cluster=True)
def everything_as_usual(way):
  model = compiled(way, metrics=["mae", "AUC"], weighted_metrics=["mse"])
  examples = data.dense()
  examples.sample_weight = data.weights()
  way.all(model, examples, data.validation())
  way.evaluate_list(model, examples)


@FIT.add("x of feasigns", cluster=True, note="the rows as on arrays with a `tfps.Model`")
def a_table(way):
  model = wide(metrics=["AUC"], weighted_metrics=["mse"])
  way.all(model, data.rows(data.weights()), data.rows())


@COMPILE.add("loss_weights")
def loss_weights(way):
  x = keras.Input([4], name="x")
  hidden = keras.layers.Dense(3, "tanh")(x)
  outputs = {name: keras.layers.Dense(1, "sigmoid", name=name)(hidden) for name in ("a", "b")}
  model = way.Model(x, outputs)
  model.compile("adam", {"a": "mse", "b": "mae"}, loss_weights={"a": 0.3, "b": 2.0})
  way.test(model, data.Data(data.floats(4), {"a": data.clicks(), "b": 1 - data.clicks()}))


@COMPILE.add("run_eagerly", refused_on_cluster="ValueError: workers run graphs only")
def run_eagerly(way):
  # Whether Python runs once for each step.
  class Counted(way.Model):
    steps = 0

    def train_step(self, batch):
      type(self).steps += 1
      return super().train_step(batch)

  model = Counted()
  model.dense = keras.layers.Dense(1, "sigmoid")
  model.call = lambda x, training=None: model.dense(x)
  model.build([None, 4])
  model.compile("adam", "mse", run_eagerly=True)
  way.all(model, data.dense())
  way.see("steps of Python", Counted.steps)


@COMPILE.add("steps_per_execution", note="a ticket is what runs at once, whatever it is")
def steps_per_execution(way):
  way.all(compiled(way, steps_per_execution=2), data.dense(), data.validation())


@COMPILE.add("jit_compile")
def jit_compile(way):
  way.train(compiled(way, jit_compile=False), data.dense())


@COMPILE.add("jit_compile=True")
def jit_compiled(way):
  way.all(compiled(way, jit_compile=True), data.dense())


@COMPILE.add("pss_evaluation_shards", note="tickets are the shards")
def pss_evaluation_shards(way):
  way.test(compiled(way, pss_evaluation_shards=2 if way.name == "cluster" else 0), data.dense())


def _refused_by_fit(name, value):
  def program(way):
    way.fit(compiled(way), data.dense(), **{name: value})

  program.__name__ = f"fit_with_{name}"
  FIT.add(name, refused=f"ValueError: .*{name}.*")(program)


for _name, _value in {
  "y": data.clicks(),
  "batch_size": 4,
  "validation_split": 0.2,
  "sample_weight": data.weights(),
  "steps_per_epoch": 2,
  "validation_steps": 2,
  "validation_batch_size": 2,
}.items():
  _refused_by_fit(_name, _value)


@FIT.add("class_weight")
def class_weight(way):
  model = compiled(way, weighted_metrics=["mae"])
  way.train(model, data.dense(), data.validation(), class_weight={0: 1.0, 1: 2.0})


@FIT.add("validation_freq")
def validation_freq(way):
  way.train(compiled(way), data.dense(), data.validation(), epochs=4, validation_freq=2)


@FIT.add("validation_freq as a list")
def validation_freq_list(way):
  way.fit(compiled(way), data.dense(), data.validation(), epochs=4, validation_freq=[1, 4])


@FIT.add("initial_epoch")
def initial_epoch(way):
  way.train(compiled(way), data.dense(), initial_epoch=1, epochs=3)


@FIT.add("shuffle", note="a source shuffles if it was made with `shuffle=True`")
def shuffle(way):
  way.train(compiled(way), data.dense(), shuffle=False)


@FIT.add("max_queue_size", "workers", "use_multiprocessing", note=QUEUES)
def queues(way):
  queue = dict(max_queue_size=3, workers=2, use_multiprocessing=False)
  model = way.all(compiled(way), data.dense(), **queue)
  way.evaluate(model, data.dense(), **queue)
  way.predict(model, data.dense(), **queue)


EVALUATE.add("max_queue_size", "workers", "use_multiprocessing", note=QUEUES)(queues)
PREDICT.add("max_queue_size", "workers", "use_multiprocessing", note=QUEUES)(queues)


@FIT.add(
  "callbacks",
  cluster=True,
  note="a batch is a ticket",
)
def callbacks_of_fit(way):
  _told(way, lambda model, **told: way.fit(model, data.dense(), data.validation(), **told))


@EVALUATE.add(
  "callbacks",
  cluster=True,
  note="a batch is a ticket",
)
def callbacks_of_evaluate(way):
  _told(way, lambda model, **told: way.evaluate(model, data.dense(), **told))


@PREDICT.add("callbacks", note="a batch is a ticket")
def callbacks_of_predict(way):
  _told(way, lambda model, **told: way.predict(model, data.dense(), **told))


def _told(way, call):
  way.batches_per_ticket = 1
  told = Hooks()
  call(compiled(way, metrics=["mae"]), callbacks=[told])
  way.see("calls", told.calls)


class Hooks(keras.callbacks.Callback):
  """Which hooks are called, with what."""

  def __init__(self):
    super().__init__()
    self.calls = []

  def set_params(self, params):
    super().set_params(params)
    self.calls.append(str(sorted(params.items())))


def _hook(name):
  def hook(self, *arguments):
    self.calls.append(f"{name} {[_keys(each) for each in arguments if each is not None]}")

  return hook


def _keys(value):
  return list(value) if isinstance(value, dict) else value


for _name in dir(keras.callbacks.Callback):
  if _name.startswith("on_"):
    setattr(Hooks, _name, _hook(_name))


@FIT.add("verbose", only="fit", note="the bar counts tickets")
@EVALUATE.add("verbose", only="evaluate", note="the bar counts tickets")
@PREDICT.add("verbose", only="predict", note="the bar counts tickets")
def verbose(way):
  way.batches_per_ticket = 1
  model, examples = compiled(way, metrics=["mae"]), data.dense()
  for level in (2, 1, "auto"):
    fit = lambda: way.fit(model, examples, data.validation(), epochs=2, verbose=level)
    way.see(f"fit prints at {level}", _last(way.printed(fit), level))
    way.see(
      f"evaluate prints at {level}",
      _last(way.printed(lambda: way.evaluate(model, examples, verbose=level)), level),
    )
    way.see(
      f"predict prints at {level}",
      _last(way.printed(lambda: way.predict(model, examples, verbose=level)), level),
    )


def _last(text, level):
  """The last state of each line: how often a bar is drawn depends on the time that it takes."""
  return "\n".join(line.split("\r")[-1].strip() for line in text.split("\n"))


def _refused_by(features, verb, name, value):
  def program(way):
    model = compiled(way)
    getattr(way, verb)(model, data.dense(), **{name: value})

  program.__name__ = f"{verb}_with_{name}"
  features.add(name, refused=f"ValueError: .*{name}.*")(program)


_refused_by(EVALUATE, "evaluate", "y", data.clicks())
_refused_by(EVALUATE, "evaluate", "batch_size", 4)
_refused_by(EVALUATE, "evaluate", "sample_weight", data.weights())
_refused_by(EVALUATE, "evaluate", "steps", 2)
_refused_by(PREDICT, "predict", "batch_size", 4)
_refused_by(PREDICT, "predict", "steps", 2)

EVALUATE.add("return_dict", cluster=True)(everything_as_usual)
FEATURES = [*COMPILE, *FIT, *EVALUATE, *PREDICT]
