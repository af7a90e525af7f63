"""What a pickle of NVIDIA's says of its networks, besides their tensors.

Some of it changes what a network computes, with the same tensors. What our
networks cannot do is refused here, one rule each.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

Options = Mapping[str, Mapping[str, Any]]
"""Options by the path of their layer; the network itself has an empty path."""


class Rule(NamedTuple):
  """An option of some layers, the one value it may have, what others mean."""

  layers: str
  """Pattern of paths."""
  option: str
  value: Any
  otherwise: str


def check(options: Options, rules: Iterable[Rule]) -> None:
  """Refuses networks with options that ours do not have.

  Raises:
    ValueError: naming the layer and the option.
  """
  for rule in rules:
    for path, values in options.items():
      if not re.fullmatch(rule.layers, path) or rule.option not in values:
        continue
      found = values[rule.option]
      if isinstance(found, tuple):
        found = list(found)
      if found != rule.value:
        where = f"{path}.{rule.option}" if path else rule.option
        raise ValueError(
          f"{where!r} is {found!r}: {rule.otherwise}, which is not supported; "
          f"take a network whose {rule.option} is {rule.value!r}."
        )


def check_names(names: Collection[str], others: Mapping[str, str]) -> None:
  """Refuses tensors that only other kinds of networks have.

  Args:
    names: of the tensors.
    others: pattern of names to what has them.

  Raises:
    ValueError: naming the tensor and what has it.
  """
  for pattern, what in others.items():
    for name in filter(re.compile(pattern).fullmatch, names):
      raise ValueError(
        f"{name!r} belongs to {what}, which is not supported; take an "
        "unconditional StyleGAN2 network of the published architecture."
      )


def number(
  options: Options, layers: str, option: str, default: float | None = None
) -> float | None:
  """The number, or None, that an option is in all of these layers.

  Raises:
    ValueError: it is several, or something else.
  """
  found = [
    values[option]
    for path, values in options.items()
    if re.fullmatch(layers, path) and option in values
  ]
  if not found:
    return default
  value = found[0]
  if any(other != value for other in found):
    raise ValueError(
      f"{option!r} differs between layers, which is not supported; take a "
      "network that has one value of it."
    )
  if value is None:
    return None
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise ValueError(f"{option!r} is {str(value)[:60]!r}, expected a number.")
  return float(value)


def count(
  options: Options, layers: str, option: str, default: int | None
) -> int | None:
  """As `number`, for whole numbers."""
  usual = None if default is None else float(default)
  value = number(options, layers, option, usual)
  if value is not None and (value < 1 or value != int(value)):
    raise ValueError(
      f"{option!r} is {value:g}, expected a whole number from 1."
    )
  return None if value is None else int(value)
