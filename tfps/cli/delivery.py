"""Options and replicas, which `tfps push-delta` and `tfps sync` share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:]+):\d{1,5}")
_CHUNK_BYTES = 64 * 1024  # delta_reader.CHUNK_BYTES, which this must not import


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("folder", metavar="EXPORT_FOLDER", help="the folder that exports go to")
  add_server_arguments(parser)
  parser.add_argument(
    "--chunk-bytes",
    type=_positive(int),
    default=_CHUNK_BYTES,
    metavar="N",
    help="how many bytes of rows one call has at most; predictions wait while a server takes "
    f"them, default {_CHUNK_BYTES:,}",
  )


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
  """Which servers there are, and how they are reached."""
  parser.add_argument(
    "--server",
    action="append",
    required=True,
    type=_address,
    metavar="HOST:PORT",
    help="the gRPC address of a TensorFlow Serving; repeat it for every replica",
  )
  parser.add_argument(
    "--model-name", default="ctr", metavar="NAME", help="the model's name there, default ctr"
  )
  parser.add_argument(
    "--timeout",
    type=_positive(float),
    default=60.0,
    metavar="SECONDS",
    help="how long to wait for a server that is away or does not answer, default 60",
  )
  parser.add_argument("--ca", metavar="FILE", help="speak TLS; certificates (PEM) to trust")
  parser.add_argument("--certificate", metavar="FILE", help="this client's certificate (PEM)")
  parser.add_argument("--key", metavar="FILE", help="and its private key (PEM)")


def check(args: argparse.Namespace) -> None:
  """Ends with the usage where options do not fit together."""
  if (args.certificate is None) != (args.key is None):
    args.parser.error("--certificate and --key need each other")
  if args.certificate is not None and args.ca is None:
    args.parser.error("--certificate needs --ca: without it the connection is not encrypted")


def replicas(args: argparse.Namespace) -> list:
  """A `tfps.delivery.replica.Replica` for every server named."""
  from tfps.delivery.channel import open_channel
  from tfps.delivery.replica import Replica

  return [
    Replica(
      address,
      open_channel(address, args.ca, args.certificate, args.key),
      args.model_name,
      args.timeout,
    )
    for address in dict.fromkeys(args.server)
  ]


def _address(text: str) -> str:
  if not _ADDRESS.fullmatch(text):
    raise argparse.ArgumentTypeError(f"'{text}' is not HOST:PORT")
  return text


def _positive(kind: Callable[[str], Number]) -> Callable[[str], Number]:
  def parse(text: str) -> Number:
    value = kind(text)
    if value <= 0:
      raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return value

  parse.__name__ = kind.__name__
  return parse
