"""What is wrong with a checkpoint, in one sentence."""


class CheckpointError(ValueError):
  """A checkpoint that is damaged, or that does not fit what it is restored into."""
