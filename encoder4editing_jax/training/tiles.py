"""What arrays take in the memory of a TPU, where they lie in tiles.

Two axes of an array are last in memory, and fill tiles of 8 x 128 numbers. XLA
chooses which; convolutions want theirs to be those of examples and channels,
and what is computed number by number takes over the axes of its operands (XLA's
layout assignment).
"""

import itertools
import math

from encoder4editing_jax.training.flat import Flat, Value

LANES, ROWS = 128, 8


def sizes(flat: Flat) -> dict[Value, float]:
  """Bytes of all arrays, with the padding of their tiles."""
  found = _axes(flat)
  values = [*flat.arguments, *(v for o in flat.operations for v in o.writes)]
  return {value: _tiled(value, found.get(value)) for value in values}


def _axes(flat: Flat) -> dict[Value, tuple[int, int]]:
  """The last axes in memory, where a convolution says so."""
  found: dict[Value, tuple[int, int]] = {}
  for operation in flat.operations:
    if operation.name == "conv_general_dilated":
      numbers = operation.equation.params["dimension_numbers"]
      arrays = (*operation.reads, *operation.writes)
      for value, axes in zip(arrays, numbers, strict=True):
        found[value] = tuple(axes[:2])
  for operation in (*flat.operations, *reversed(flat.operations)):
    of_shape: dict[tuple[int, ...], list[Value]] = {}
    for value in (*operation.reads, *operation.writes):
      of_shape.setdefault(value.shape, []).append(value)
    for alike in of_shape.values():
      known = [found[value] for value in alike if value in found]
      for value in alike if known else ():
        found.setdefault(value, known[0])
  return found


def _tiled(value: Value, axes: tuple[int, int] | None) -> float:
  shape = value.shape
  if len(shape) < 2 or not value.nbytes:
    return float(value.nbytes)
  pairs = itertools.permutations(axes or range(len(shape)), 2)
  return value.nbytes * min(
    _up(shape[lane], LANES)
    * _up(shape[row], _rows(shape[row]))
    / (shape[lane] * shape[row])
    for lane, row in pairs
  )


def _up(n: int, unit: int) -> int:
  return -(-n // unit) * unit


def _rows(n: int) -> int:
  """Rows of a tile: fewer for few of them."""
  return min(ROWS, 2 ** math.ceil(math.log2(n)))
