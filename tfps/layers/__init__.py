"""From features to pulled, pooled rows."""
