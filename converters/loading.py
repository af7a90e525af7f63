"""Networks from files of every kind: this library's own, and official ones."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from encoder4editing_jax import weights
from encoder4editing_jax.converters.converting import convert
from encoder4editing_jax.converters.limits import CheckpointError
from encoder4editing_jax.converters.reader import read

SUFFIXES = (".safetensors", ".pt", ".pth", ".pkl", ".tar", ".ckpt", ".npz")


def load(
  path: str | os.PathLike[str], *, encoder_type: str | None = None
) -> Any:
  """The network of a file, ready for inference.

  What a file is, is told by its content and not by its name. Official ones are
  converted in memory; nothing in a file is executed. `e4e convert` does it once
  for all, and keeps what it found out about the file.

  Args:
    path: a file that `save` wrote, or a checkpoint of e4e, pSp, ReStyle,
      StyleGAN2 or another network for which there is a converter.
    encoder_type: official name of the encoder, for e4e, pSp and ReStyle
      checkpoints that do not say.

  Returns:
    A module of `encoder4editing_jax.models`.

  Raises:
    FileNotFoundError: no such file, or it is a folder.
    ValueError: the file is damaged, or of a kind that has no converter; the
      message says what it is, and what to do with it.
  """
  path = Path(path)
  check_file(path)
  if weights.is_native(path):
    if encoder_type is not None:
      raise ValueError(
        f"{path}: a file of this library knows its encoder; leave out "
        "encoder_type."
      )
    return weights.load(path)
  return convert_file(
    path, lambda checkpoint: convert(checkpoint, encoder_type=encoder_type)
  )


def convert_file(path: Path, convert: Callable[[Any], Any]) -> Any:
  """What `convert` makes of the checkpoint in a file, whose name its errors
  get."""
  checkpoint = read(path)
  try:
    return convert(checkpoint)
  except CheckpointError:
    raise  # names the file itself
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def check_file(path: Path) -> None:
  """Refuses what is no file.

  Raises:
    FileNotFoundError: with the files of a folder that might be meant.
    ValueError: it is a pipe or a device.
  """
  if path.is_dir():
    inside = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
    some = ", ".join(map(str, inside[:3]))
    which = f"give one of its files: {some}" if some else "give a file"
    raise FileNotFoundError(f"{path} is a folder; {which}.")
  if not path.exists():
    raise FileNotFoundError(f"{path} is not there; check the path.")
  if not path.is_file():  # reading it might never end
    raise ValueError(f"{path} is a pipe or a device; save it as a file first.")
