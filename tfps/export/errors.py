"""What is wrong with an export, in one sentence."""


class ExportError(ValueError):
  """A model that cannot be exported, or an artifact that is damaged."""
