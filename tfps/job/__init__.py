"""Assembles the run of a command from a config."""
