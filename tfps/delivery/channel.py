"""gRPC channels that wait for a server that restarts, and send a lost call again."""

import json

import grpc

_SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
# All calls may be sent twice: a chunk that was applied before changes nothing.
_SERVICE_CONFIG = {
  "methodConfig": [
    {
      "name": [{"service": service} for service in _SERVICES],
      "waitForReady": True,
      "retryPolicy": {
        "maxAttempts": 5,
        "initialBackoff": "0.2s",
        "maxBackoff": "5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
      },
    }
  ]
}
_OPTIONS = (
  ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
  ("grpc.initial_reconnect_backoff_ms", 200),
  ("grpc.max_reconnect_backoff_ms", 2000),
  ("grpc.max_send_message_length", -1),  # The dense weights are one message.
)


def open_channel(
  address: str, ca: str | None = None, certificate: str | None = None, key: str | None = None
) -> grpc.Channel:
  """A grpc.Channel.

  Args:
    address: "host:port".
    ca: file of the certificates, PEM, one of which must have signed the server's; without it the
      connection is not encrypted.
    certificate, key: files, PEM, with which this client shows who it is, where the server asks.
  """
  if ca is None:
    return grpc.insecure_channel(address, _OPTIONS)
  credentials = grpc.ssl_channel_credentials(_read(ca), _read(key), _read(certificate))
  return grpc.secure_channel(address, credentials, _OPTIONS)


def _read(path: str | None) -> bytes | None:
  if path is None:
    return None
  with open(path, "rb") as file:
    return file.read()
