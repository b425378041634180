"""Inputs made up at random for everything that reads some: python -m tests.fuzz --help."""
