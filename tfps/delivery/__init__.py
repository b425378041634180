"""Deltas on their way to running servers: what `tfps push-delta` and `tfps sync` do."""
