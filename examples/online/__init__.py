"""The whole circle on one machine: users, logs, join, trainer, deltas, server and users again."""
