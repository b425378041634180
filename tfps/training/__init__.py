"""Runs tickets on a model."""
