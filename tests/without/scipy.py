"""Stands before SciPy for processes that tests start; see tests/conftest.py."""

raise ImportError("Processes that tests start do without SciPy.")
