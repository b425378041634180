"""Loads an artifact as TensorFlow Serving does, and compares its answers with the trainer's."""
