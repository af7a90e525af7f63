"""Entries by which kinds of checkpoints are told."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from encoder4editing_jax.converters import sources

ALONE = "(tensor)"  # the entry of a checkpoint that is one array


@dataclasses.dataclass(frozen=True)
class Mark:
  """Entries by which a kind is told.

  Args:
    place: names on the way to the entries, joined by "/"; "" is the top.
    has: entries that are all there; "a|b" is either.
    lacks: entries of which none is there.
    shapes: of entries that are there.
  """

  place: str
  has: tuple[str, ...]
  lacks: tuple[str, ...] = ()
  shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(
    default_factory=dict
  )


def at(
  *places: str,
  has: str,
  lacks: str = "",
  shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[Mark, ...]:
  """The same mark at several places; names are separated by blanks."""
  names = tuple(has.split()), tuple(lacks.split())
  return tuple(Mark(place, *names, shapes or {}) for place in places)


def entries(value: Any) -> Mapping[Any, Any]:
  """What a part of a checkpoint holds, by name; lists by position."""
  if isinstance(value, Mapping):
    return value
  if isinstance(value, np.ndarray):
    return {ALONE: value}
  if isinstance(value, list | tuple):
    return {str(i): item for i, item in enumerate(value)}
  return {}


def bears(checkpoint: Any, mark: Mark) -> bool:
  """Whether a checkpoint has the entries of a mark, at its place."""
  found = entries(checkpoint)
  for name in filter(None, mark.place.split("/")):
    found = entries(found.get(name))
  found = sources.single(found)
  return (
    all(any(n in found for n in name.split("|")) for name in mark.has)
    and not any(name in found for name in mark.lacks)
    and all(np.shape(found[n]) == shape for n, shape in mark.shapes.items())
  )
