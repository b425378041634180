"""Exports for an unmodified TensorFlow Serving; names load on first use."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # The same names for type checkers and editors, which do not run __getattr__.
  from tfps.errors import ExportError
  from tfps.export.checking.session import SavedModelSession
  from tfps.export.delta_reader import changed_feasigns, delta_chunks
  from tfps.export.exporter import Exporter

_PUBLIC = {
  "changed_feasigns": "tfps.export.delta_reader",
  "delta_chunks": "tfps.export.delta_reader",
  "Exporter": "tfps.export.exporter",
  "ExportError": "tfps.errors",
  "SavedModelSession": "tfps.export.checking.session",
}

__all__ = ["ExportError", "Exporter", "SavedModelSession", "changed_feasigns", "delta_chunks"]


if not TYPE_CHECKING:  # To type checkers, a name that is misspelt is an error.

  def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
      return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tfps.export' has no attribute '{name}'")
