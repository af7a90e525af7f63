"""What a traced function takes, counted from its operations alone.

No compiler is asked, so these hold for any device, and for none exactly: XLA
fuses what is elementwise, may compute things twice, and pads.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

PRODUCTS = ("conv_general_dilated", "dot_general")

# What compilers compute within whatever takes the result.
FUSED = frozenset(
  (
    *("abs", "add", "add_any", "and", "broadcast_in_dim", "clamp"),
    *("convert_element_type", "copy", "copy_p", "div", "eq", "erf", "exp"),
    *("expand_dims", "expm1", "floor", "ge", "gt", "integer_pow", "iota"),
    *("is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min"),
    *("mul", "ne", "neg", "not", "optimization_barrier", "or", "pad"),
    *("pow", "pvary", "reshape", "round", "rsqrt", "select_n", "sign"),
    *("slice", "split", "sqrt", "square", "squeeze", "stop_gradient"),
    *("sub", "tanh", "xor"),
  )
)


class Counts(NamedTuple):
  """Of one call."""

  operations: float
  """Multiplications and additions of products and convolutions."""
  bytes: float
  """What these read and write, each array once: a lower bound."""
  peak: float
  """Bytes that are alive at once, in the order of the trace, without the
  arguments."""


def nbytes(tree_leaf: Any) -> int:
  """Bytes of an array, of its shape, or of a random key."""
  return math.prod(tree_leaf.shape) * tree_leaf.dtype.itemsize


def count(jaxpr: Any) -> Counts:
  """The counts of a jaxpr, with those of the functions that it calls.

  Loops count as often as they run. Of branches the one with fewest operations
  counts: where a computation is written for several platforms, the others do
  the same by more.
  """
  last, stored = _last_uses(jaxpr), _stored(jaxpr)
  operations = moved = live = peak = 0.0
  alive: dict[Any, int] = {}
  for place, equation in enumerate(jaxpr.eqns):
    inner, times = _inner(equation)
    operations += times * inner.operations + _product(equation)
    moved += times * inner.bytes
    if equation.primitive.name in PRODUCTS:
      moved += sum(_size(v) for v in (*equation.invars, *equation.outvars))
    peak = max(peak, live + inner.peak)
    for variable in equation.outvars:
      alive[variable] = _size(variable) if variable in stored else 0
      live += alive[variable]
    peak = max(peak, live)
    for variable in {*map(_key, equation.invars), *equation.outvars}:
      if last.get(variable, -1) <= place:
        live -= alive.pop(variable, 0)
  return Counts(operations, moved, peak)


def _stored(jaxpr: Any) -> set[Any]:
  """Variables that are written to memory: what is fused is, if something else
  reads it. What is returned counts where the function was called."""
  found = set()
  for equation in jaxpr.eqns:
    if not _is_fused(equation):
      found |= {*map(_key, equation.invars), *equation.outvars}
  return found - set(map(_key, jaxpr.outvars))


def _is_fused(equation: Any) -> bool:
  inner = [e for jaxpr in _jaxprs(equation) for e in jaxpr.eqns]
  name = equation.primitive.name
  return all(map(_is_fused, inner)) if inner else name in FUSED


def _key(variable: Any) -> Any:
  return None if hasattr(variable, "val") else variable  # a literal


def _size(variable: Any) -> int:
  shaped = variable.aval
  return nbytes(shaped) if hasattr(shaped, "shape") else 0


def _last_uses(jaxpr: Any) -> dict[Any, int]:
  """Where each variable is used last; what is returned stays."""
  found = {
    variable: place
    for place, equation in enumerate(jaxpr.eqns)
    for variable in map(_key, equation.invars)
  }
  return found | dict.fromkeys(map(_key, jaxpr.outvars), len(jaxpr.eqns))


def _inner(equation: Any) -> tuple[Counts, int]:
  """Counts of what an operation calls, and how often it does."""
  found = [count(jaxpr) for jaxpr in _jaxprs(equation)]
  if not found:
    return Counts(0, 0, 0), 1
  if equation.primitive.name == "cond":
    return min(found), 1
  operations, moved, peaks = zip(*found, strict=True)
  times = equation.params.get("length", 1)
  return Counts(sum(operations), sum(moved), max(peaks)), times


def _jaxprs(equation: Any) -> Iterator[Any]:
  for value in equation.params.values():
    for one in value if isinstance(value, tuple | list) else (value,):
      inner = getattr(one, "jaxpr", one)  # closed ones too
      if hasattr(inner, "eqns"):
        yield inner


def _product(equation: Any) -> float:
  """Operations of a product or a convolution; 0 for anything else."""
  name, parameters = equation.primitive.name, equation.params
  if name not in PRODUCTS:
    return 0.0
  left, right = (v.aval.shape for v in equation.invars[:2])
  out = math.prod(equation.outvars[0].aval.shape)
  if name == "dot_general":
    (contracted, _), _ = parameters["dimension_numbers"]
    return 2.0 * out * math.prod(left[axis] for axis in contracted)
  _, inputs, *window = parameters["dimension_numbers"].rhs_spec
  taps = right[inputs] * math.prod(right[axis] for axis in window)
  zeros = math.prod(parameters["lhs_dilation"])  # between samples
  return 2.0 * out * taps / zeros
