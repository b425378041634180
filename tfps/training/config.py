"""The fields of a run that every config has, with their defaults."""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import config_dict

from tfps.table.accessor import CtrAccessor
from tfps.training.communication import Communication
from tfps.training.nonfinite_steps import MOST

# The arguments that a config has for its model before it sets any; those of the models in models/.
MODEL_ARGS = {"hidden": (256, 128), "combiner": "mean", "dropout": 0.0}


def default_config() -> config_dict.ConfigDict:
  """Every field that `tfps train` reads; a config sets what differs and adds `data`."""
  config, defaults = config_dict.ConfigDict(), Communication()

  # The model: a class, or a function that returns a tfps.Model, in a Python file (the config's own
  # where `file` is empty). It is called as name(table, slots, **args); of these args, it gets the
  # ones that it declares.
  config.model = config_dict.ConfigDict()
  config.model.file = "models/deepfm.py"
  config.model.name = "DeepFM"
  config.model.args = config_dict.create(**MODEL_ARGS)
  config.slots = ()

  # max_rows, max_bytes: beyond these the lowest scores leave at once; 0: no limit.
  # engine: what keeps the rows, "native" or "tfra" (TensorFlow Recommenders Addons' tables;
  # docs/engines.md).
  config.table = config_dict.create(
    name="ctr",
    mf_dim=8,
    gradient_scale="per_show",
    mf_init_range=1e-4,
    seed=0,
    num_shards=1024,
    engine="native",
    max_rows=0,
    max_bytes=0,
  )
  config.accessor = config_dict.ConfigDict(dataclasses.asdict(CtrAccessor()))
  # Sparse optimizers: a class of tfps (SGD, Adagrad, StdAdagrad, Adam, FTRL) and its arguments.
  config.mf_optimizer = config_dict.create(name="Adagrad", learning_rate=0.05)
  config.lr_optimizer = config_dict.create(name="Adagrad", learning_rate=0.05)
  # What a slot has of its own: {slot: {mf_dim, accessor, mf_optimizer, lr_optimizer}}, each of them
  # as above, with only what differs; an optimizer with a name of its own starts from that
  # optimizer's defaults.
  config.slot_policies = config_dict.ConfigDict()

  # The towers: a Keras optimizer, loss and metrics.
  config.dense_optimizer = config_dict.create(name="adam", learning_rate=1e-3)
  # A Keras loss, or "fake_negative_weighted" for the samples of a join with policy early
  # (docs/join.md); none ("") where the model's own `compute_loss` needs none. Of a model with
  # several outputs, one for all, or {output: loss}; an output without a loss is not trained on.
  # Likewise the metrics: a tuple, or {output: tuple}.
  config.loss = _of_any_type("binary_crossentropy")
  config.loss_weights = config_dict.ConfigDict()  # {output: number}; 1 for what it does not name.
  config.metrics = _of_any_type(("AUC",))
  # The label that is the click, by its name or position, where there are several; where it is
  # empty, that of the model or else the first.
  config.click_label = ""
  # The outputs that are click probabilities, whose AUC, log loss and calibration are reported; all
  # that have labels where it is empty.
  config.scored_outputs = ()

  config.batch_size = 512
  config.batches_per_ticket = 10
  config.epochs = 1
  # A record of the data that cannot be used: "fail" ends the run and names the record, "skip"
  # leaves it out and counts it, up to max_bad_records (0: no limit). More in docs/reliability.md.
  config.on_bad_record = "fail"
  config.max_bad_records = 10_000
  # shuffle.on: shuffle the tickets of a day and the records of each, which has so many pieces from
  # all over the day; otherwise the order is that of the source. mix: where source(config) returns
  # {name: source}, the ratios of their records by name, 1 by default, and what happens when one
  # ends ("go_on", "stop", "repeat"). window: each day is trained with those before it, `days` in
  # all, `epochs` times. More, also of the next fields, in docs/inputs.md.
  config.shuffle = config_dict.create(on=False, pieces=1)
  config.mix = config_dict.create(ratios=config_dict.ConfigDict(), when_one_ends="go_on")
  config.window = config_dict.create(days=1, epochs=1)
  # A share of the examples that is never trained on: those with about that share of all values of
  # the features `by`, such as ("user_id",). Where the config's file has no validation_source, the
  # share is it.
  config.held_out = config_dict.create(share=0.0, by=(), salt=0)
  # The share of the negatives that is trained on; predictions are corrected for it. label: the
  # label that is 0 for a negative, click_label by default; also: other outputs to be corrected.
  config.negatives = config_dict.create(rate=1.0, label="", also=())
  # The feature that is no feature but the weight of its example; none where it is empty.
  config.weight = ""
  # With so many steps whose loss or gradient is not finite a run fails; each of them changes no
  # weight (0: no limit). More in docs/reliability.md.
  config.max_nonfinite_steps = MOST
  # Who waits for whom: "async": nobody; "bounded": a ticket for all that are more than max_delay
  # before it; "sync": the gradients of tickets_per_step tickets (0: one for each worker) are
  # applied as one. More in docs/consistency.md.
  config.consistency = defaults.consistency
  config.max_delay = defaults.max_delay
  config.tickets_per_step = defaults.tickets_per_step
  # How pulled rows and pushed gradients cross the wire: "float32", "bfloat16" or "float16"; and
  # whether a pull returns references by which the push finds its rows.
  config.wire_dtype = defaults.wire_dtype
  config.row_references = defaults.row_references
  # A worker reads the dense weights and merges its changes after this many batches of a ticket (0:
  # once a ticket); with dense_local_steps it steps its own copy in between.
  config.dense_sync_every = defaults.dense_sync_every
  config.dense_local_steps = defaults.dense_local_steps
  # The next batch is pulled while this one computes, and pushes are sent with every Nth pull.
  config.prefetch = defaults.prefetch
  config.push_window = defaults.push_window
  # Test each day before it is trained on; end the tables' day (eviction, ageing, decay) after it.
  config.progressive_test = True
  config.end_of_day = True
  # Checkpoints: none where the folder is empty; otherwise training goes on from the last one in it.
  # every_tickets and every_minutes also save within a day; 0 does not. Checkpoints within a day
  # hold only the rows touched since the last one. may_differ names the slots, and the dense weights
  # ("tower/0/kernel") or layers ("tower"), in which the model may differ from what was saved.
  config.checkpoint = config_dict.create(
    folder="",
    every_days=1,
    every_tickets=0,
    every_minutes=0.0,
    keep=3,
    incremental=True,
    may_differ=(),
  )
  # Of a source that is a stream (tfps.data.stream): when its days end by event time, how often to
  # look for new samples, when to end (0: never by itself), and how often a line reports on it.
  config.stream = config_dict.create(
    day_seconds=86400.0,
    offset_seconds=0.0,
    grace_seconds=0.0,
    past_samples=10,
    poll_seconds=1.0,
    stop_after_idle=0.0,
    report_seconds=60.0,
  )
  # Exports for TensorFlow Serving: none where the folder is empty. A base at days' ends, and a
  # delta after this many examples or minutes (0: not then). A base is checked with `examples` of
  # the day; keep is the number of bases that stay beside those that a server has, 0 for all.
  config.export = config_dict.create(
    folder="", every_days=1, examples=256, keep=0, delta_every_examples=0, delta_every_minutes=0.0
  )
  # Before its first ticket, a run that begins takes the rows of another model's checkpoint, from
  # its table of that name: slots "user_id", or "user_id=user" where the slot is called user there;
  # with no slots named, all that both tables have.
  config.warm_start = config_dict.create(checkpoint="", table="", slots=())
  # Where the config's file has a function validation_source(config), the model is evaluated on that
  # source after each epoch. monitor: what is compared, a metric with "val_" before its name; mode:
  # "min" or "max", which values are better ("auto": max for auc, acc and accuracy). patience: so
  # many epochs in a row without a better value end the run (0: none do). reduce_rate: what the
  # dense and the rows' learning rates are multiplied by after each reduce_patience such epochs (1:
  # never), down to the dense min_rate. A value is better by more than min_delta. best_folder: where
  # the checkpoint of the best epoch is; the run ends with that epoch's rows and dense weights (none
  # where it is empty).
  config.validation = config_dict.create(
    monitor="val_auc",
    mode="auto",
    patience=0,
    min_delta=0.0,
    reduce_rate=1.0,
    reduce_patience=1,
    min_rate=0.0,
    best_folder="",
  )
  # What an evaluator's task measures with each checkpoint. tensorboard: folder, by default
  # "evaluator" in that of the run. gauc_slot: the feature that groups examples for GAUC, like
  # "user_id"; none where it is empty. slots: values that are scored apart, "genres" for its
  # most_values values with most examples, "genres=Drama" for one. max_examples: 0 for all.
  # checkpoints: "every", or "newest" to leave out those that are no longer the last.
  config.evaluation = config_dict.create(
    tensorboard="",
    gauc_slot="",
    slots=(),
    most_values=20,
    max_examples=1_000_000,
    checkpoints="every",
    poll_seconds=10.0,
  )
  config.seed = 1
  # Ops that give the same result in every run, and cost time.
  config.deterministic = False
  # Folder for TensorBoard's files; none are written where it is empty.
  config.tensorboard = ""
  # The table's statistics are written there at each day's end, and after every Nth ticket (0: not
  # then).
  config.tensorboard_tickets = 0
  # File for the summary as JSON; none is written where it is empty.
  config.summary_file = ""
  return config


def _of_any_type(value: Any) -> config_dict.FieldReference:
  """A field that takes a group of fields in the place of this default, too."""
  return config_dict.FieldReference(value, field_type=object)
