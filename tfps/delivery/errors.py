"""What can go wrong on the way to a replica, each in one sentence."""


class DeliveryError(ValueError):
  """A replica cannot be brought up to date."""


class Refused(DeliveryError):
  """The server took a request for wrong; it changed nothing."""


class NotServed(DeliveryError):
  """The server has no such model, or not this version of it."""


class Unreachable(DeliveryError):
  """The server does not answer."""
