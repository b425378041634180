"""The errors that tfps raises: each one sentence that names the culprit and the remedy."""


class ConfigError(ValueError):
  """A setting is wrong; the message is one sentence that names it and the remedy."""


class PrivateApiError(ImportError):
  """A private API that tfps uses is not in the installed TensorFlow or Keras."""


class LostError(ConnectionError, TimeoutError):
  """A task of the cluster is missing or has been replaced; the message is one sentence."""


class LockError(ValueError):
  """Another process has the folder's lock."""


class BadRecordError(ValueError):
  """A record of a source cannot be used; the sentence names file, record and what is wrong."""


class NonfiniteError(ValueError):
  """What is not finite came up too often, or would have been saved; the sentence names it."""


class CheckpointError(ValueError):
  """A checkpoint is damaged, or does not fit what it is restored into."""


class ExportError(ValueError):
  """A model cannot be exported, or an artifact is damaged."""


class DeliveryError(ValueError):
  """A replica cannot be brought up to date."""


class Refused(DeliveryError):
  """The server rejected a request as wrong; nothing changed there."""


class NotServed(DeliveryError):
  """The server has no such model, or not this version of it."""


class Busy(DeliveryError):
  """The server had no room for a call, for all the time that the call could wait."""


class Unreachable(DeliveryError):
  """The server does not answer."""
