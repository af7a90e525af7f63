"""What a published file is, or one of directions."""

from pathlib import Path
from typing import Any

import numpy as np

from encoder4editing_jax import converters
from encoder4editing_jax.converters.kinds import Kind
from encoder4editing_jax.converters.recognition import identify
from encoder4editing_jax.identifying.found import (
  CONVERT,
  DIRECTIONS,
  GENERATOR,
  MODEL,
  WEIGHTS,
  Found,
)

FEATURES = ("arcface", "moco", "inception")


def look(path: Path) -> Found:
  """A published file, or directions.

  Raises:
    ValueError: it is damaged, or unknown.
  """
  try:
    checkpoint = converters.read(path)
  except converters.CheckpointError as error:
    if "of no known format" not in str(error):
      raise
    raise ValueError(
      f"{path} is none of what this library reads or writes: networks, "
      "checkpoints, codes, directions, pictures, data sets, runs."
    ) from None
  try:
    matches = identify(checkpoint)
  except ValueError as error:
    try:
      return _directions(path, checkpoint)
    except ValueError:
      raise ValueError(f"{path}: {error}") from None
  kind = matches[0].kind
  if kind.name in ("direction", "pca"):
    try:
      return _directions(path, checkpoint)
    except ValueError as error:
      raise ValueError(f"{path}: {error}") from None
  also = {m.kind.part: m.kind.what for m in matches[1:] if m.kind.part}
  facts: dict[str, Any] = {"also": also} if also else {}
  if kind.advice:
    facts["advice"] = kind.advice
  return Found(kind.name, kind.what, facts, _commands(kind))


def _commands(kind: Kind) -> tuple[str, ...]:
  """What takes a published file of a kind."""
  if kind.part == "inverter":
    return (CONVERT, *MODEL)
  if kind.part == "generator":
    return (CONVERT, *GENERATOR)
  if kind.part in FEATURES or "e4e weights" in kind.advice:
    return (WEIGHTS,)
  return (CONVERT,) if kind.converter else ()


def _directions(path: Path, checkpoint: Any) -> Found:
  found = converters.to_directions(checkpoint, path.stem)
  facts = {"shapes": {k: list(np.shape(v)) for k, v in found.items()}}
  if "components" in found:
    what = "principal components of styles (GANSpace)"
    return Found("pca", what, facts, ())
  names = ", ".join(found)
  return Found("directions", f"directions of edits: {names}", facts, DIRECTIONS)
