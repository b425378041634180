"""A proxy on loopback whose connections a test can cut."""

import contextlib
import socket
import threading


class Proxy:
  """Hands on what comes to `address`.

  Args:
    target: "host:port".

  Attributes:
    address: "host:port" of this proxy.
    connections: how many there have been.
  """

  def __init__(self, target):
    host, port = target.rsplit(":", 1)
    self._target = host, int(port)
    self._open = []
    self.connections = 0
    self._listener = socket.create_server(("127.0.0.1", 0))
    self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
    threading.Thread(target=self._accept, daemon=True).start()

  def cut(self):
    """Ends all connections; new ones may come."""
    while self._open:
      with contextlib.suppress(OSError):
        self._open.pop().shutdown(socket.SHUT_RDWR)

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self._listener.close()
    self.cut()

  def _accept(self):
    with contextlib.suppress(OSError):
      while True:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._target)
        self.connections += 1
        self._open += [client, server]
        for pair in ((client, server), (server, client)):
          threading.Thread(target=_copy, args=pair, daemon=True).start()


def _copy(source, target):
  with contextlib.suppress(OSError):
    while data := source.recv(65536):
      target.sendall(data)
  for end in (source, target):
    with contextlib.suppress(OSError):
      end.shutdown(socket.SHUT_RDWR)
