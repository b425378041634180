"""Every layer that Keras ships; those of one family in one model."""

import inspect

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tests.keras_judge import data
from tests.keras_judge.feature import Features

FEATURES = Features("layers")
layers = keras.layers
# Base classes, cells that only an RNN runs (see `cells`), and what is no layer.
BASES = {"Layer", "InputSpec", "Wrapper", "AbstractRNNCell", "InputLayer"}
OTHER_NUMBERS = dict(
  only_on_cluster="keys|epochs|initial",
  note="under a strategy TensorFlow's generators draw other numbers",
)

# {family: {name of a layer: a function of input to output}}; {family: shape of an example}.
SHAPES = {
  "vectors": [6],
  "sequences": [4, 3],
  "images": [6, 6, 3],
  "volumes": [4, 4, 4, 2],
  "random": [6],
  "random images": [6, 6, 3],
}
MAKES = {
  "vectors": {
    "Activation": lambda: layers.Activation("tanh"),
    "ActivityRegularization": lambda: layers.ActivityRegularization(l2=0.01),
    "Dense": lambda: layers.Dense(3, "relu"),
    "ELU": layers.ELU,
    "EinsumDense": lambda: layers.EinsumDense("ab,bc->ac", output_shape=3, bias_axes="c"),
    "Flatten": layers.Flatten,
    "Identity": layers.Identity,
    "Lambda": lambda: layers.Lambda(lambda x: x * 2),
    "LayerNormalization": layers.LayerNormalization,
    "BatchNormalization": lambda: layers.BatchNormalization(momentum=0.9),
    "LeakyReLU": layers.LeakyReLU,
    "PReLU": layers.PReLU,
    "ReLU": layers.ReLU,
    "RepeatVector": lambda: layers.RepeatVector(2),
    "Reshape": lambda: layers.Reshape([3, 2]),
    "Softmax": layers.Softmax,
    "ThresholdedReLU": lambda: layers.ThresholdedReLU(0.5),
    "UnitNormalization": layers.UnitNormalization,
    "GroupNormalization": lambda: layers.GroupNormalization(groups=2),
    "Rescaling": lambda: layers.Rescaling(0.5, 1),
    "Normalization": lambda: layers.Normalization(mean=0.1, variance=2.0),
    "Discretization": lambda: layers.Discretization([-1.0, 0.0, 1.0], output_mode="multi_hot"),
  },
  "sequences": {
    "AveragePooling1D": layers.AveragePooling1D,
    "Bidirectional": lambda: layers.Bidirectional(layers.SimpleRNN(2)),
    "Conv1D": lambda: layers.Conv1D(2, 3),
    "Conv1DTranspose": lambda: layers.Conv1DTranspose(2, 3),
    "Cropping1D": layers.Cropping1D,
    "DepthwiseConv1D": lambda: layers.DepthwiseConv1D(3),
    "GRU": lambda: layers.GRU(2),
    "GlobalAveragePooling1D": layers.GlobalAveragePooling1D,
    "GlobalMaxPooling1D": layers.GlobalMaxPooling1D,
    "LSTM": lambda: layers.LSTM(2, return_sequences=True),
    "LocallyConnected1D": lambda: layers.LocallyConnected1D(2, 3),
    "Masking": layers.Masking,
    "MaxPooling1D": layers.MaxPooling1D,
    "Permute": lambda: layers.Permute([2, 1]),
    "RNN": lambda: layers.RNN(layers.SimpleRNNCell(2)),
    "GRUCell": lambda: layers.RNN(layers.GRUCell(2), unroll=True),
    "LSTMCell": lambda: layers.RNN(layers.LSTMCell(2), unroll=True),
    "SimpleRNNCell": lambda: layers.RNN(layers.SimpleRNNCell(2)),
    "StackedRNNCells": lambda: layers.RNN(
      layers.StackedRNNCells([layers.GRUCell(2), layers.SimpleRNNCell(2)]), unroll=True
    ),
    "SeparableConv1D": lambda: layers.SeparableConv1D(2, 3),
    "SimpleRNN": lambda: layers.SimpleRNN(2),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(2)),
    "UpSampling1D": layers.UpSampling1D,
    "ZeroPadding1D": layers.ZeroPadding1D,
  },
  "images": {
    "AveragePooling2D": layers.AveragePooling2D,
    "CenterCrop": lambda: layers.CenterCrop(4, 4),
    "Conv2D": lambda: layers.Conv2D(2, 3),
    "Conv2DTranspose": lambda: layers.Conv2DTranspose(2, 3),
    "ConvLSTM1D": lambda: layers.ConvLSTM1D(2, 3),
    "Cropping2D": layers.Cropping2D,
    "DepthwiseConv2D": lambda: layers.DepthwiseConv2D(3),
    "GlobalAveragePooling2D": layers.GlobalAveragePooling2D,
    "GlobalMaxPooling2D": layers.GlobalMaxPooling2D,
    "LocallyConnected2D": lambda: layers.LocallyConnected2D(2, 3),
    "MaxPooling2D": layers.MaxPooling2D,
    "Resizing": lambda: layers.Resizing(3, 3),
    "SeparableConv2D": lambda: layers.SeparableConv2D(2, 3),
    "UpSampling2D": layers.UpSampling2D,
    "ZeroPadding2D": layers.ZeroPadding2D,
  },
  "volumes": {
    "AveragePooling3D": layers.AveragePooling3D,
    "Conv3D": lambda: layers.Conv3D(2, 3),
    "Conv3DTranspose": lambda: layers.Conv3DTranspose(2, 2),
    "ConvLSTM2D": lambda: layers.ConvLSTM2D(2, 2),
    "Cropping3D": layers.Cropping3D,
    "GlobalAveragePooling3D": layers.GlobalAveragePooling3D,
    "GlobalMaxPooling3D": layers.GlobalMaxPooling3D,
    "MaxPooling3D": layers.MaxPooling3D,
    "UpSampling3D": layers.UpSampling3D,
    "ZeroPadding3D": layers.ZeroPadding3D,
  },
  # Their draws come from generators that are variables: the same in each way.
  "random": {
    "Dropout": lambda: layers.Dropout(0.3),
    "AlphaDropout": lambda: layers.AlphaDropout(0.3),
    "GaussianDropout": lambda: layers.GaussianDropout(0.3),
    "GaussianNoise": lambda: layers.GaussianNoise(0.3),
  },
  "random images": {
    "SpatialDropout2D": lambda: layers.SpatialDropout2D(0.3),
    "RandomBrightness": lambda: layers.RandomBrightness(0.2),
    "RandomContrast": lambda: layers.RandomContrast(0.2),
    "RandomCrop": lambda: layers.RandomCrop(4, 4),
    "RandomFlip": layers.RandomFlip,
    "RandomRotation": lambda: layers.RandomRotation(0.2),
    "RandomTranslation": lambda: layers.RandomTranslation(0.2, 0.2),
    "RandomZoom": lambda: layers.RandomZoom(0.2),
  },
}
# Each family's program makes these, too.
LIKE = {
  "AvgPool": "AveragePooling",
  "Convolution": "Conv",
  "GlobalAvgPool": "GlobalAveragePooling",
  "GlobalMaxPool": "GlobalMaxPooling",
  "MaxPool": "MaxPooling",
  "SeparableConvolution": "SeparableConv",
}


def shipped():
  """{layer that Keras has: the name under which it is in the table}."""
  found = {}
  for name in dir(layers):
    kind = getattr(layers, name)
    if inspect.isclass(kind) and name not in BASES and not name.startswith("_"):
      # An alias has another's name.
      found[name] = kind.__name__.removesuffix("V2") if kind.__name__ != name else name
  return found


def _flat(output):
  if output.shape.rank > 2:
    output = layers.Flatten()(output)
  return tf.cast(output, tf.float32)


def _family(family):
  def program(way):
    if "random" in family:
      keras.backend.experimental.enable_tf_random_generator()
    try:
      x = keras.Input(SHAPES[family], name="x")
      outputs = []
      for name, make in MAKES[family].items():
        layer = make()
        layer._name = name
        outputs.append(_flat(layer(x)))
      last = layers.Dense(1, "sigmoid", name="last")(layers.Concatenate()(outputs))
      model = way.Model(x, last)
      model.compile(keras.optimizers.SGD(0.05), "binary_crossentropy")
      x = data.floats(*SHAPES[family])
      if "image" in family:
        x = np.abs(x)
      way.learn(model, data.Data(x, data.clicks()))
    finally:
      keras.backend.experimental.disable_tf_random_generator()

  program.__name__ = "layers_of_" + family.replace(" ", "_")
  for name in MAKES[family]:
    settings = OTHER_NUMBERS if "random" in family else {}
    FEATURES.add(name, cluster=family == "vectors", **settings)(program)


for _each in MAKES:
  _family(_each)


@FEATURES.add(
  "SpatialDropout1D", "SpatialDropout3D", "RandomHeight", "RandomWidth", **OTHER_NUMBERS
)
def more_random(way):
  keras.backend.experimental.enable_tf_random_generator()
  try:
    x = keras.Input([4, 4, 4, 2], name="x")
    image = layers.Reshape([16, 4, 2])(x)
    sequence = layers.Reshape([64, 2])(x)
    outputs = [
      layers.GlobalMaxPooling3D()(layers.SpatialDropout3D(0.4)(x)),
      layers.GlobalMaxPooling1D()(layers.SpatialDropout1D(0.4)(sequence)),
      layers.GlobalMaxPooling2D()(layers.RandomHeight(0.3)(image)),
      layers.GlobalMaxPooling2D()(layers.RandomWidth(0.3)(image)),
    ]
    model = way.Model(x, layers.Dense(1, "sigmoid")(layers.Concatenate()(outputs)))
    model.compile(keras.optimizers.SGD(0.05), "binary_crossentropy")
    way.learn(model, data.Data(data.floats(4, 4, 4, 2), data.clicks()))
  finally:
    keras.backend.experimental.disable_tf_random_generator()


@FEATURES.add("ConvLSTM3D")
def conv_lstm_3d(way):
  x = keras.Input([2, 2, 2, 2, 1], name="x")
  hidden = layers.Flatten()(layers.ConvLSTM3D(2, 2)(x))
  model = way.Model(x, layers.Dense(1, "sigmoid")(hidden))
  model.compile("sgd", "mse")
  way.learn(model, data.Data(data.floats(2, 2, 2, 2, 1), data.clicks()))


@FEATURES.add(
  "Add",
  "Average",
  "Concatenate",
  "Dot",
  "Maximum",
  "Minimum",
  "Multiply",
  "Subtract",
  "Attention",
  "AdditiveAttention",
  "MultiHeadAttention",
)
def merges(way):
  a, b = keras.Input([4, 3], name="a"), keras.Input([4, 3], name="b")
  both = [layers.Dense(3)(a), layers.Dense(3)(b)]
  outputs = [
    make()(both)
    for make in (
      layers.Add,
      layers.Average,
      layers.Concatenate,
      layers.Maximum,
      layers.Minimum,
      layers.Multiply,
      layers.Subtract,
      layers.Attention,
      layers.AdditiveAttention,
    )
  ]
  outputs += [layers.Dot(axes=2)(both), layers.MultiHeadAttention(2, 2)(*both)]
  hidden = layers.Concatenate()([layers.Flatten()(output) for output in outputs])
  model = way.Model([a, b], layers.Dense(1, "sigmoid")(hidden))
  model.compile(keras.optimizers.SGD(0.05), "mse")
  way.learn(model, data.Data((data.floats(4, 3), data.floats(4, 3)[::-1].copy()), data.clicks()))


@FEATURES.add("Embedding", "CategoryEncoding", "HashedCrossing", "Hashing")
def of_integers(way):
  a, b = (keras.Input([1], dtype=tf.int64, name=name) for name in "ab")
  outputs = [
    layers.Flatten()(layers.Embedding(9, 2)(a)),
    layers.CategoryEncoding(9, "one_hot")(a),
    layers.HashedCrossing(5, output_mode="one_hot")([a, b]),
    layers.CategoryEncoding(5, "one_hot")(layers.Hashing(5)(a)),
  ]
  model = way.Model([a, b], layers.Dense(1, "sigmoid")(layers.Concatenate()(outputs)))
  model.compile("sgd", "mse")
  way.learn(model, data.Data((data.integers(9, 1), data.integers(9, 1, seed=8)), data.clicks()))


@FEATURES.add("IntegerLookup")
def integer_lookup(way):
  x = keras.Input([1], dtype=tf.int64, name="x")
  found = layers.IntegerLookup(vocabulary=[1, 3, 5], output_mode="one_hot")(x)
  model = way.Model(x, layers.Dense(1, "sigmoid")(found))
  model.compile("sgd", "mse")
  way.learn(model, data.Data(data.integers(9, 1), data.clicks()))


@FEATURES.add("StringLookup", "TextVectorization")
def of_strings(way):
  x = keras.Input([1], dtype=tf.string, name="x")
  text = layers.TextVectorization(vocabulary=["a", "b"], output_mode="count", standardize=None)
  outputs = [layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(x), text(x)]
  hidden = layers.Concatenate()([tf.cast(output, tf.float32) for output in outputs])
  model = way.Model(x, layers.Dense(1, "sigmoid")(hidden))
  model.compile("sgd", "mse")
  words = np.array(["a", "b", "a b b", "c"])[data.integers(4, 1)]
  way.learn(model, data.Data(words, data.clicks()))


@FEATURES.add("DenseFeatures")
def dense_features(way):
  inputs = {"a": keras.Input([1], name="a")}
  columns = [tf.feature_column.numeric_column("a")]
  model = way.Model(inputs, layers.Dense(1, "sigmoid")(layers.DenseFeatures(columns)(inputs)))
  model.compile("sgd", "mse")
  way.learn(model, data.Data({"a": data.floats(1)}, data.clicks()))


@FEATURES.add("preprocessing layers that were adapted")
def adapted(way):
  normalization = layers.Normalization()
  normalization.adapt(data.floats(4))
  x = keras.Input([4], name="x")
  model = way.Model(x, layers.Dense(1, "sigmoid")(normalization(x)))
  model.compile("sgd", "mse")
  way.learn(model, data.dense())


@FEATURES.add("a layer with a state of its own that call changes")
def stateful(way):
  class Counts(layers.Layer):
    def build(self, shape):
      self.calls = self.add_weight(name="calls", shape=[], initializer="zeros", trainable=False)
      self.mean = self.add_weight(name="mean", shape=[4], initializer="zeros", trainable=False)

    def call(self, x, training=None):
      if training:
        self.calls.assign_add(1.0)
        self.mean.assign(0.9 * self.mean + 0.1 * tf.reduce_mean(x, axis=0))
      return x - self.mean

  x = keras.Input([4], name="x")
  model = way.Model(x, layers.Dense(1, "sigmoid")(Counts()(x)))
  model.compile("sgd", "mse")
  way.learn(model, data.dense())


@FEATURES.add("SpectralNormalization")
def spectral_normalization(way):
  x = keras.Input([4], name="x")
  hidden = layers.SpectralNormalization(layers.Dense(3))(x)
  model = way.Model(x, layers.Dense(1, "sigmoid")(hidden))
  model.compile("sgd", "mse")
  way.learn(model, data.dense())


@FEATURES.add("stateful RNN", refused_on_cluster="ValueError: Stateful RNNs .*not yet supported")
def stateful_rnn(way):
  x = keras.Input(batch_shape=[8, 3, 2], name="x")
  model = way.Model(x, layers.Dense(1, "sigmoid")(layers.GRU(2, stateful=True)(x)))
  model.compile("sgd", "mse")
  way.learn(model, data.Data(data.floats(3, 2), data.clicks()).part(0, 48))
