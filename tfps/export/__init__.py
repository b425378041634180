"""Exports for an unmodified TensorFlow Serving; names load on first use."""

import importlib

_PUBLIC = {
  "delta_chunks": "tfps.export.delta_reader",
  "Exporter": "tfps.export.exporter",
  "ExportError": "tfps.errors",
  "SavedModelSession": "tfps.export.checking.session",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
  if name in _PUBLIC:
    return getattr(importlib.import_module(_PUBLIC[name]), name)
  raise AttributeError(f"module 'tfps.export' has no attribute '{name}'")
