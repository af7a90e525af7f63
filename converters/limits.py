"""What reading a checkpoint may cost, and how it fails."""

from dataclasses import dataclass


class CheckpointError(ValueError):
  """A file cannot be read: which, why, and what to do about it."""

  def __init__(self, reason: str):
    super().__init__(reason if len(reason) <= 300 else reason[:297] + "...")


@dataclass
class Limits:
  """What a file may ask for.

  Args:
    instructions: of all its pickles together.
    elements: of all its tensors together.
  """

  instructions: int = 2_000_000
  elements: int = 1 << 34
