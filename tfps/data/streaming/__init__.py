"""Streams: samples that keep arriving, in a folder or a Kafka topic."""
