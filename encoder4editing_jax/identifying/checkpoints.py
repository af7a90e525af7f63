"""What a published file is, or one of directions."""

from pathlib import Path
from typing import Any

import numpy as np

from encoder4editing_jax import converters, directions
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
SHOWN = 14  # names of directions


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
      return edits(path)
    except ValueError:
      raise ValueError(f"{path}: {error}") from None
  kind = matches[0].kind
  if kind.name in ("direction", "pca"):
    return edits(path)
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


def edits(path: Path) -> Found:
  """Directions of any kind, by the names that commands know them by.

  Raises:
    ValueError: it holds something else.
  """
  found = directions.load(path)
  shapes = {name: list(np.shape(one.vector)) for name, one in found.items()}
  names = ", ".join([*found][:SHOWN]) + ", ..." * (len(found) > SHOWN)
  if all(one.mean is not None for one in found.values()):
    what = f"principal components of styles (GANSpace): {names}"
    return Found("pca", what, {"shapes": shapes}, DIRECTIONS)
  what = f"directions of edits: {names}"
  return Found("directions", what, {"shapes": shapes}, DIRECTIONS)
