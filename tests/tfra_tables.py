"""Makes TFRA save its tables, in a process of its own: python -m tests.tfra_tables FOLDER.

Writes below FOLDER in each form that TFRA has, and to tables.npz what its tables return for their
keys.
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf
import tf_keras as keras

from benchmarks import tfra

de = tfra.dynamic_embedding()
DIM = 4
OPTIMIZER = keras.optimizers.legacy.Adam


def variable(name, devices, seed):
  rng = np.random.default_rng(seed)
  keys = rng.choice(10**6, 300, replace=False).astype(np.int64) - 1000
  result = de.get_variable(name, dim=DIM, devices=["/CPU:0"] * devices)
  result.upsert(tf.constant(keys), tf.constant(rng.normal(size=[300, DIM]).astype(np.float32)))
  return result


def contents(var):
  keys = np.concatenate([table.export()[0].numpy() for table in var.tables])
  return {"keys": keys, "values": var.lookup(tf.constant(keys)).numpy()}


def model(name, saver=None):
  creator = de.CuckooHashTableCreator(saver=saver)
  embedding = de.keras.layers.SquashedEmbedding(
    DIM, name=name, initializer=keras.initializers.RandomNormal(seed=1), kv_creator=creator
  )
  result = keras.Sequential([embedding, keras.layers.Dense(1)])
  result.compile(de.DynamicEmbeddingOptimizer(OPTIMIZER(0.1)), "mse", run_eagerly=True)
  result.fit(tf.range(50, dtype=tf.int64)[:, None], tf.ones([50, 1]), verbose=0)
  return result, embedding.params


def main(folder):
  tables = {}
  users, items = variable("users", 2, 1), variable("my/items", 1, 2)
  tf.train.Checkpoint(users=users, items=items).write(f"{folder}/checkpoint/model")
  for var in (users, items):
    var.save_to_file_system(f"{folder}/files", proc_size=1, proc_rank=0)
  items.tables[0].save_to_file_system(f"{folder}/single", file_name="table")
  tables |= {"users": contents(users), "items": contents(items)}
  keras_model, params = model("plain")
  keras_model.save_weights(f"{folder}/weights/model")
  tables["weights"] = contents(params)
  keras_model, params = model("user", de.FileSystemSaver())
  tf.saved_model.save(keras_model, f"{folder}/saved_model")
  tables["saved_model"] = contents(params)
  np.savez(
    pathlib.Path(folder, "tables.npz"),
    **{f"{name}.{part}": array for name, pair in tables.items() for part, array in pair.items()},
  )


if __name__ == "__main__":
  main(sys.argv[1])
