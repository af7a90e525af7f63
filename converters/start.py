"""What the trainer starts from, out of files of every kind."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encoder4editing_jax import weights
from encoder4editing_jax.converters.converting import convert
from encoder4editing_jax.converters.irse import to_backbone
from encoder4editing_jax.converters.loading import check_file, convert_file
from encoder4editing_jax.converters.recognition import identify
from encoder4editing_jax.converters.training_state import (
  NEEDED,
  to_training_state,
)


def load_start(path: str | os.PathLike[str]) -> Any:
  """The training run in a file, or its network.

  As `load`, with two kinds of files more: checkpoints with
  `--save_training_data`, and torchvision's ResNet-34, a body for encoders.

  Returns:
    A `TrainingState`, or a module of `encoder4editing_jax.models`.

  Raises:
    FileNotFoundError, ValueError: as `load` and `to_training_state`.
  """
  path = Path(path)
  check_file(path)
  if weights.is_native(path):
    return weights.load(path)
  return convert_file(path, _converted)


def _converted(checkpoint: Any) -> Any:
  if isinstance(checkpoint, Mapping) and set(checkpoint) >= set(NEEDED):
    try:
      return to_training_state(checkpoint)
    except ValueError as error:
      raise ValueError(
        f"{error} `e4e convert` makes a file of its networks alone, to start "
        "from at step 0."
      ) from error
  if identify(checkpoint)[0].kind.name == "torchvision-resnet34":
    return to_backbone(checkpoint)
  return convert(checkpoint)
