"""What a config says of how its source feeds a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tfps.data.down_sampling import DownSampling
from tfps.data.mixed import mix
from tfps.data.source import Source
from tfps.errors import ConfigError

if TYPE_CHECKING:
  from tfps.training.model import Model


# What `source(config)` of a config's module returns: a source, or several to be mixed.
Made = Source | Mapping[str, Source]


def prepared(config: Any, made: Made) -> tuple[Source, Source | None]:
  """(the source that a run trains on, the share that is held out).

  Args:
    config: ConfigDict with the fields of `tfps.training.config.default_config`.
    made: what `source(config)` of the config's module returned.

  Returns:
    The share is None where config.held_out names none, and of a stream.

  Raises:
    ConfigError: a field does not fit the source.
  """
  train, share = _split(config, _whole(config, made))
  sampling = down_sampling(config)
  if sampling is not None:
    _, y, *_ = train.element_spec
    if isinstance(y, dict) and sampling.label is None:
      raise ConfigError(
        f"config.negatives.label is empty, and the source's labels are {', '.join(y)}: name the "
        "one that is 0 for a negative, or set config.click_label."
      )
    with _told_of("negatives"):
      train = train.down_sample(sampling)
  if tuple(config.window.values()) != (1, 1):
    with _told_of("window"):
      train = train.window(**config.window)
  return train, None if share is None or share.is_endless else share


def down_sampling(config: Any) -> DownSampling | None:
  """What config.negatives says; None where all are kept."""
  settings = config.negatives
  label = settings.label or config.click_label or None
  if label is not None and label.isdecimal():
    label = int(label)
  with _told_of("negatives"):
    sampling = DownSampling(settings.rate, label, config.seed, settings.also)
  return None if sampling.rate == 1 else sampling


def correct_for(config: Any, model: Model) -> None:
  """Lets the model correct what it predicts as config.negatives says."""
  model.down_sampling = down_sampling(config)


def _whole(config: Any, made: Made) -> Source:
  """The source in its order, mixed of several."""
  if isinstance(made, Mapping):
    with _told_of("mix"):
      parts = {name: _shuffled(config, part) for name, part in made.items()}
      return mix(parts, config.mix.ratios, when_one_ends=config.mix.when_one_ends)
  if config.mix.ratios:
    raise ConfigError(
      "config.mix.ratios is set, but the config has one source: let source(config) return "
      "{name: source}."
    )
  return _shuffled(config, made)


def _shuffled(config: Any, source: Source) -> Source:
  if not config.shuffle.on:
    if config.shuffle.pieces != 1:
      raise ConfigError("config.shuffle.pieces is set, but config.shuffle.on is not: set both.")
    return source
  with _told_of("shuffle"):
    return source.shuffled(config.seed, pieces=config.shuffle.pieces)


def _split(config: Any, source: Source) -> tuple[Source, Source | None]:
  if config.weight:
    try:
      source = source.weighted_by(config.weight)
    except ValueError as error:
      raise ConfigError(f"config.{error}") from None
  settings = config.held_out
  if not settings.share:
    return source, None
  with _told_of("held_out"):
    return source.split(settings.share, settings.by, salt=settings.salt)


@contextlib.contextmanager
def _told_of(field: str) -> Iterator[None]:
  try:
    yield
  except ValueError as error:
    raise ConfigError(f"config.{field}: {error}") from None
