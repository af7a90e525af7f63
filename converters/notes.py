"""What converters have to say about a conversion, besides its result.

Whoever wants to know collects it. To all others only warnings are told, by the
logger `encoder4editing_jax.converters`.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

_log = logging.getLogger("encoder4editing_jax.converters")


@dataclasses.dataclass
class Notes:
  """Of the conversions in a context."""

  unused: list[str] = dataclasses.field(default_factory=list)
  """Names of tensors that fill no leaf."""
  provenance: dict[str, str] = dataclasses.field(default_factory=dict)
  """What of the weights is not from the file, and how it was made."""
  warnings: list[str] = dataclasses.field(default_factory=list)
  """What a user should know."""


_collecting: ContextVar[Notes | None] = ContextVar("notes", default=None)


@contextlib.contextmanager
def collected() -> Iterator[Notes]:
  """The notes of the conversions inside this context."""
  token = _collecting.set(notes := Notes())
  try:
    yield notes
  finally:
    _collecting.reset(token)


def unused(names: Iterable[str]) -> None:
  """Notes tensors that fill no leaf."""
  if notes := _collecting.get():
    notes.unused += names


def warn(message: str, **provenance: str) -> None:
  """Tells a user something, and notes what was computed, and how."""
  if notes := _collecting.get():
    notes.warnings.append(message)
    notes.provenance |= provenance
  else:
    _log.warning(message)
