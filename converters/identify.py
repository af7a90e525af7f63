"""Says what a checkpoint is, and takes it to the converter of its kind."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from encoder4editing_jax.converters.inverter import to_inverter
from encoder4editing_jax.converters.kinds import ALONE, KINDS, Kind, Mark

_SHOWN = 6  # entries of an unknown file that are named


class Match(NamedTuple):
  """One network that a checkpoint holds, and where: names joined by "/"."""

  kind: Kind
  place: str


def _entries(value: Any) -> Mapping[Any, Any]:
  if isinstance(value, Mapping):
    return value
  if isinstance(value, np.ndarray):
    return {ALONE: value}
  if isinstance(value, list | tuple):
    return {str(i): item for i, item in enumerate(value)}
  return {}


def _bears(checkpoint: Any, mark: Mark) -> bool:
  found = _entries(checkpoint)
  for name in filter(None, mark.place.split("/")):
    found = _entries(found.get(name))
  return (
    all(any(n in found for n in name.split("|")) for name in mark.has)
    and not any(name in found for name in mark.lacks)
    and all(np.shape(found[n]) == shape for n, shape in mark.shapes.items())
  )


def identify(checkpoint: Any) -> tuple[Match, ...]:
  """What a checkpoint is, from the names of its entries.

  Args:
    checkpoint: as `read` returns it, or a mapping of names to arrays.

  Returns:
    What it is, first; then what else it can be converted as, one match for
    each part, for example the discriminator that was trained with a generator.

  Raises:
    ValueError: it is of no known kind; the message names its entries.
  """
  found = [
    Match(kind, mark.place)
    for kind in KINDS
    for mark in kind.marks
    if _bears(checkpoint, mark)
  ]
  if not found:
    names = entry_names(checkpoint)
    some = ", ".join(repr(name[:60]) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise ValueError(
      f"this is of no known kind; at its top are {some or 'no names'}{more}. "
      "Give a checkpoint of e4e, pSp, ReStyle or StyleGAN2."
    )
  parts = {match.kind.part: match for match in found[::-1]}
  others = [m for p, m in parts.items() if p not in ("", found[0].kind.part)]
  return found[0], *others[::-1]


def entry_names(checkpoint: Any) -> list[str]:
  """The names at the top of a checkpoint."""
  return list(map(str, _entries(checkpoint)))


def choose(matches: tuple[Match, ...], part: str | None) -> Match:
  """The network that is to be converted: the first, or the one of a part.

  Raises:
    ValueError: there is no such part, or it has no converter.
  """
  parts = {match.kind.part: match for match in matches if match.kind.part}
  if part is not None and part not in parts:
    has = ", ".join(parts) or "no part that can be converted"
    raise ValueError(f"there is no {part} in it; it has {has}.")
  chosen = matches[0] if part is None else parts[part]
  if chosen.kind.convert is None:
    also = "".join(f"; --part {p} takes its {p}" for p in parts)
    raise ValueError(f"this is {chosen.kind.what}; {chosen.kind.advice}{also}.")
  return chosen


def convert(
  checkpoint: Any, part: str | None = None, encoder_type: str | None = None
) -> Any:
  """The network of a checkpoint of any kind.

  Args:
    checkpoint: as `read` returns it, or a mapping of names to arrays.
    part: which network of a file of several, for example "discriminator";
      the name of its converter without `to_`.
    encoder_type: see `to_inverter`.

  Raises:
    ValueError: the kind is unknown or has no converter; or as the converter.
  """
  return convert_as(
    choose(identify(checkpoint), part), checkpoint, encoder_type
  )


def convert_as(
  match: Match, checkpoint: Any, encoder_type: str | None = None
) -> Any:
  """The network of a match that `choose` returned."""
  kind = match.kind
  assert kind.convert is not None
  if kind.convert is to_inverter:
    return to_inverter(checkpoint, encoder_type)
  if encoder_type is not None:
    raise ValueError(
      f"encoder_type is {encoder_type!r}, but this is {kind.what}; leave "
      "encoder_type out."
    )
  return kind.convert(checkpoint)
