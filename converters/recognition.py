"""Says what a checkpoint is, by the table of kinds."""

from typing import Any, NamedTuple

from encoder4editing_jax.converters import marks
from encoder4editing_jax.converters.kinds import KINDS, Kind

_SHOWN = 6  # entries of an unknown file that are named


class Match(NamedTuple):
  """One network that a checkpoint holds, and where: names joined by "/"."""

  kind: Kind
  place: str


def _matches(checkpoint: Any) -> list[Match]:
  return [
    Match(kind, mark.place)
    for kind in KINDS
    for mark in kind.marks
    if marks.bears(checkpoint, mark)
  ]


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
  found = _matches(checkpoint)
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
  return list(map(str, marks.entries(checkpoint)))


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
  if chosen.kind.converter is None:
    also = "".join(f"; --part {p} takes its {p}" for p in parts)
    raise ValueError(f"this is {chosen.kind.what}; {chosen.kind.advice}{also}.")
  return chosen


def advice(checkpoint: Any) -> str | None:
  """What this is instead, and what to do with it; None if it is unknown.

  For the errors of converters that were given something else.
  """
  found = _matches(checkpoint)
  if not found:
    return None
  kind = found[0].kind
  how = kind.advice or f"pass all of it to {kind.converter}"
  return f"it has names of {kind.what}: {how}"
