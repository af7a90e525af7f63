"""Whether the fields of a training config are of their types.

Standard library only.
"""

import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

WORDS = {
  bool: "True or False",
  float: "a number",
  int: "a whole number",
  str: "a text",
  type(None): "None",
}


def mistyped(config: Any) -> Iterator[str]:
  """One line for each field whose value is not of its type, with the fix."""
  for name, section in vars(config).items():
    for field, kind in typing.get_type_hints(type(section)).items():
      value = getattr(section, field)
      if not _fits(value, kind):
        yield f"{name}.{field} is {value!r}; set it to {_words(kind)}."


def _fits(value: Any, kind: Any) -> bool:
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if origin is Literal:
    return value in arguments
  if origin is types.UnionType:
    return any(_fits(value, argument) for argument in arguments)
  if origin is tuple:
    if not isinstance(value, tuple):
      return False
    if arguments[-1] is Ellipsis:
      arguments = arguments[:1] * len(value)
    return len(value) == len(arguments) and all(map(_fits, value, arguments))
  if isinstance(value, bool):
    return kind is bool
  return isinstance(value, (int, float) if kind is float else kind)


def _words(kind: Any) -> str:
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if origin is Literal:
    return "one of " + ", ".join(map(repr, arguments))
  if origin is types.UnionType:
    return " or ".join(map(_words, arguments))
  if origin is tuple:
    many = arguments[-1] is Ellipsis
    return f"a tuple of {'' if many else f'{len(arguments)} '}whole numbers"
  return WORDS[kind]
