"""The models of models/ beside their papers' formulas in NumPy, an example at a time."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import tfps
from tests import zoo


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


POOLED = ["user_id", "item_id", "tags"]  # beside a history

ACTIVATIONS = {
  "linear": lambda x: x,
  "relu": lambda x: np.maximum(x, 0),
  "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
  "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
  "softmax": softmax,
}


def run(layer, x):
  """What a dense layer, or a stack of them, makes of x [..., n]."""
  if isinstance(layer, keras.Sequential):
    for one in layer.layers:
      x = run(one, x)
    return x
  if isinstance(layer, keras.layers.Dropout):
    return x
  if isinstance(layer, keras.layers.ReLU):
    return np.maximum(x, 0)
  if isinstance(layer, keras.layers.BatchNormalization):
    gamma, beta, mean, variance = layer.get_weights()
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta
  if isinstance(layer, keras.layers.PReLU):
    (alpha,) = layer.get_weights()
    return np.where(x > 0, x, alpha[0] * x)
  kernel, *bias = layer.get_weights()
  return ACTIVATIONS[layer.activation.__name__](x @ kernel + (bias[0] if bias else 0))


def attend(layer, x, sees):
  """Multi-head attention (Vaswani et al. 2017) of x [n, D]; sees[i]: the places that i looks at."""
  q, q_b, k, k_b, v, v_b, out, out_b = layer.get_weights()
  result = np.zeros_like(x) + out_b
  for head in range(q.shape[1]):
    queries, keys, values = (x @ w[:, head] + b[head] for w, b in ((q, q_b), (k, k_b), (v, v_b)))
    for i, places in enumerate(sees):
      shares = softmax(queries[i] @ keys[places].T / np.sqrt(q.shape[2]))
      result[i] += shares @ values[places] @ out[head]
  return result


def normalise(layer, x):
  gamma, beta = layer.get_weights()
  mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  return gamma * (x - mean) / np.sqrt(variance + 1e-6) + beta


class Rows:
  """The vectors and weights of an example's feasigns, from the table itself."""

  def __init__(self, model, example):
    self._table = model.embedding.table
    self.example = example

  def vectors(self, slot):
    return self._rows(slot)["mf_w"]

  def pooled(self, slots):
    """The mean vector of each slot, [S, D]; zeros where it has none."""
    return np.stack([self._mean(slot, "mf_w") for slot in slots])

  def lr(self, slots):
    return np.array([self._mean(slot, "lr_w") for slot in slots])

  def lr_logit(self, slots=zoo.SLOTS):
    return self.lr(slots).sum()

  def _rows(self, slot):
    ids = np.atleast_1d(self.example[slot])
    return self._table.lookup(ids[ids != 0])

  def _mean(self, slot, field):
    values = self._rows(slot)[field]
    return values.mean(0) if len(values) else np.zeros(values.shape[1:])


def flat_x(rows):
  return np.concatenate([rows.pooled(zoo.SLOTS).ravel(), rows.lr(zoo.SLOTS)])


def deepfm(model, rows):
  v = rows.pooled(zoo.SLOTS)
  pairs = sum(v[i] @ v[j] for i, j in itertools.combinations(range(len(v)), 2))
  return rows.lr_logit() + pairs + run(model.output_layer, run(model.tower, v.ravel()))


def wide_and_deep(model, rows):
  deep = run(model.tower, rows.pooled(zoo.SLOTS).ravel())
  return rows.lr_logit() + run(model.output_layer, deep)


def dcn_v2(model, rows):
  x = x_0 = rows.pooled(zoo.SLOTS).ravel()
  for cross in model.crosses:
    x = x_0 * run(cross, x) + x
  return rows.lr_logit() + run(model.output_layer, np.concatenate([x, run(model.tower, x_0)]))


def din(model, rows):
  (target,) = rows.vectors("item_id")
  interest = np.zeros_like(target)
  for e in rows.vectors("history"):
    interest += run(model.attention, np.concatenate([target, e, target - e, target * e])) * e
  x = np.concatenate([rows.pooled(POOLED).ravel(), interest])
  return rows.lr_logit(POOLED) + run(model.output_layer, run(model.tower, x))


def bst(model, rows):
  items = [rows.vectors("item_id")[0], *rows.vectors("history")[::-1][: model.length]]
  (places,) = model.places.get_weights()
  x = np.array(items) + places[: len(items)]
  everything = [list(range(len(items)))] * len(items)
  for block in model.blocks:
    x = normalise(block.norms[0], x + attend(block.attention, x, everything))
    x = normalise(block.norms[1], x + run(block.network, x))
  x = np.concatenate([x, np.zeros([1 + model.length - len(items), x.shape[1]])])
  x = np.concatenate([rows.pooled(POOLED).ravel(), x.ravel()])
  return rows.lr_logit(POOLED) + run(model.output_layer, run(model.tower, x))


def sasrec(model, rows):
  items = rows.vectors("history")[-model.length :]  # the latest last, as in the paper
  if not len(items):
    return [rows.lr_logit(POOLED)]
  (places,) = model.places.get_weights()
  x = items + places[: len(items)][::-1]
  earlier = [list(range(i + 1)) for i in range(len(items))]
  for block in model.blocks:
    x = x + attend(block.attention, normalise(block.norms[0], x), earlier)
    x = x + run(block.network, normalise(block.norms[1], x))
  score = normalise(model.norm, x)[-1] @ rows.vectors("item_id")[0]
  return [rows.lr_logit(POOLED) + score]


def gated(gate, x, experts):
  shares = softmax(x @ gate.get_weights()[0])
  assert len(shares) == len(experts)
  return sum(share * expert for share, expert in zip(shares, experts))


def logits(probabilities):
  p = np.concatenate(probabilities)
  return np.log(p / (1 - p))


def mmoe(model, rows):
  x = flat_x(rows)
  experts = [run(expert, x) for expert in model.experts]
  return logits([
    run(output, run(tower, gated(gate, x, experts)))
    for gate, tower, output in zip(model.gates, model.towers, model.output_layers)
  ])  # fmt: skip


def ple(model, rows):
  click, like, shared = [flat_x(rows)] * 3
  for level in model.levels:
    of_click, of_like, of_all = (
      [run(expert, x) for expert in group] for x, group in zip((click, like, shared), level.experts)
    )
    is_last = level is model.levels[-1]
    assert len(level.gates) == (2 if is_last else 3)
    everything = of_click + of_like + of_all
    click, like, shared = (
      gated(level.gates[0], click, of_click + of_all),
      gated(level.gates[1], like, of_like + of_all),
      None if is_last else gated(level.gates[2], shared, everything),
    )
  return logits([
    run(output, run(tower, x))
    for x, tower, output in zip((click, like), model.towers, model.output_layers)
  ])  # fmt: skip


def esmm(model, rows):
  x = flat_x(rows)
  ctr = run(model.ctr_output, run(model.ctr_tower, x))
  cvr = run(model.cvr_output, run(model.cvr_tower, x))
  return logits([ctr, ctr * cvr, cvr])


def dlrm(model, rows):
  z = [run(model.bottom, rows.example["dense"]), *rows.pooled(zoo.SLOTS)]
  item = 1 + zoo.SLOTS.index("item_id")
  z[item] = run(model.projections[item - 1], z[item][:2])
  pairs = [z[i] @ z[j] for i, j in itertools.combinations(range(len(z)), 2)]
  return rows.lr_logit() + run(model.output_layer, run(model.top, np.concatenate([z[0], pairs])))


def xdeepfm(model, rows):
  x = x_0 = rows.pooled(zoo.SLOTS)
  pooled = []
  for layer in model.maps:
    (kernel,) = layer.get_weights()
    w = kernel.reshape(len(x), len(x_0), -1)
    x = np.einsum("ijh,id,jd->hd", w, x, x_0)
    pooled.extend(x.sum(1))
  deep = run(model.tower, x_0.ravel())
  return rows.lr_logit() + run(model.output_layer, np.concatenate([pooled, deep]))


def autoint(model, rows):
  e = v = rows.pooled(zoo.SLOTS)
  for layer in model.interacting:
    q, k, w, residual = (
      part.get_weights()[0] for part in (layer.query, layer.key, layer.value, layer.residual)
    )
    new = []
    for head in range(layer.heads):
      own = slice(head * layer.width, (head + 1) * layer.width)
      new.append(softmax((e @ q[:, own]) @ (e @ k[:, own]).T) @ (e @ w[:, own]))
    e = np.maximum(np.concatenate(new, axis=1) + e @ residual, 0)
  x = np.concatenate([e.ravel(), run(model.tower, v.ravel())])
  return rows.lr_logit() + run(model.output_layer, x)


def finalmlp(model, rows):
  e = rows.pooled(zoo.SLOTS).ravel()
  selectors = rows.pooled(["user_id"])[0], np.asarray(model.constants[1])[0]
  first, second = (
    run(tower, e * 2 * run(gate, x)) for tower, gate, x in zip(model.towers, model.gates, selectors)
  )
  parts = (np.split(output, model.heads) for output in (first, second))
  fused = sum(a @ w @ b for a, b, w in zip(*parts, np.asarray(model.bilinear), strict=True))
  linear = run(model.output_layer, np.concatenate([first, second]))
  return rows.lr_logit() + linear + fused


FORMULAS = {
  "DeepFM": deepfm,
  "WideAndDeep": wide_and_deep,
  "DCNv2": dcn_v2,
  "DIN": din,
  "BST": bst,
  "SASRec": sasrec,
  "MMoE": mmoe,
  "PLE": ple,
  "ESMM": esmm,
  "DLRM": dlrm,
  "XDeepFM": xdeepfm,
  "AutoInt": autoint,
  "FinalMLP": finalmlp,
}


NORMALISED = ["DeepFM", "WideAndDeep", "DCNv2", "XDeepFM", "AutoInt", "FinalMLP"]
VARIANTS = [
  *((name, {}) for name in zoo.MODELS),
  *((name, {"batch_norm": True}) for name in NORMALISED),
  ("FinalMLP", {"second_hidden": [7, 4]}),
]


@pytest.mark.parametrize("name, arguments", VARIANTS)
def test_a_model_computes_its_paper_s_formula(name, arguments):
  rng = np.random.default_rng(21)
  keras.utils.set_random_seed(22)
  policies = {"item_id": tfps.SlotPolicy(mf_dim=2)} if name == "DLRM" else {}
  table = zoo.make_table(mf_init_range=1.0, slot_policies=policies)
  model = zoo.make_model(name, table, **arguments)
  model.compile("sgd", zoo.losses(name), run_eagerly=True)
  x = zoo.features(rng, 16)
  if policies:  # A feasign has the vector of the slot that pushed it first.
    x["item_id"] += 500
  for _ in range(2):  # The first reads zeros.
    model.train_on_batch(x, zoo.labels(name, rng, 16))
  averages = [w.numpy() for w in model.weights if "moving_mean" in w.name]
  assert bool(averages) == arguments.get("batch_norm", False)
  assert all((average != 0).any() for average in averages)
  # Biases and norms that would hide a mistake at their first values; no negative variance.
  for w in model.weights:
    values = rng.normal(scale=0.7, size=w.shape)
    w.assign(np.abs(values) if "moving_variance" in w.name else values)
  found = zoo.flat(model({slot: tf.constant(value) for slot, value in x.items()}))
  for row in range(16):
    rows = Rows(model, {slot: value[row] for slot, value in x.items()})
    expected = 1 / (1 + np.exp(-np.array(FORMULAS[name](model, rows))))
    np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-6)
