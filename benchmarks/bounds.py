"""What a computation must at least do, and what a machine can.

`count` reads the shapes of all products (convolutions, matrix products) in a
program: their operations, and the bytes of their operands and results, each
array once, as if everything else were fused into them. `rates` measures what
plain products and a copy reach here.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Count(NamedTuple):
  """Operations (a multiplication and an addition are two) and bytes."""

  operations: float
  bytes: float


SAME = {  # give an array that is another one, moved or cut out
  *("pad", "slice", "reshape", "transpose", "squeeze", "broadcast_in_dim"),
  *("convert_element_type", "copy", "optimization_barrier", "rev"),
}


def count(function: Callable, *arguments: Any) -> Count:
  """Of all products in `function(*arguments)`; arguments may be shapes."""
  import jax

  found: dict[int, int] = {}
  operations = _walk(jax.make_jaxpr(function)(*arguments).jaxpr, {}, found)
  return Count(operations, sum(found.values()))


def _product(equation: Any) -> float:
  """Operations of one equation, if it is a product."""
  name, out = equation.primitive.name, equation.outvars[0].aval
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval
    spec = equation.params["dimension_numbers"].rhs_spec
    zeros = math.prod(equation.params["lhs_dilation"])
    return 2 * out.size * kernel.size / kernel.shape[spec[0]] / zeros
  if name == "dot_general":
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval
    return 2 * out.size * math.prod(left.shape[i] for i in contracted)
  return 0


def _inner(equation: Any) -> list[Any]:
  """The programs within an equation, those of a condition as alternatives."""
  from encoder4editing_jax import winograd

  if equation.primitive is winograd.conv3x3:
    return [winograd.written_out(equation)]
  found = []
  for value in equation.params.values():
    for one in value if isinstance(value, tuple | list) else [value]:
      one = getattr(one, "jaxpr", one)
      if hasattr(one, "eqns"):
        found.append(one)
  return found


def _walk(program: Any, origin: dict[Any, Any], found: dict[int, int]) -> float:
  """Operations; adds the arrays that products touch to `found`.

  `origin` leads from a variable to that whose array it is.
  """

  def source(variable: Any) -> Any:
    while not hasattr(variable, "val") and variable in origin:
      variable = origin[variable]
    return variable

  total = 0.0
  for equation in program.eqns:
    name = equation.primitive.name
    if inner := _inner(equation):
      each = []
      for one in inner:
        given = equation.invars[len(equation.invars) - len(one.invars) :]
        if len(given) == len(one.invars):
          origin.update(zip(one.invars, given, strict=True))
        touched: dict[int, int] = {}
        each.append((_walk(one, origin, touched), len(each), touched))
        if len(one.outvars) == len(equation.outvars):
          pairs = zip(equation.outvars, one.outvars, strict=True)
          origin.update((a, b) for a, b in pairs if not hasattr(b, "val"))
      if name == "cond":  # of what depends on the platform the plain form
        platforms = equation.params.get("branches_platforms")
        each = [each[platforms.index(None)] if platforms else max(each)]
      times = equation.params.get("length", 1) if name == "scan" else 1
      total += times * sum(operations for operations, _, _ in each)
      for _, _, touched in each:
        found.update(touched)
    elif operations := _product(equation):
      total += operations
      for variable in (*equation.invars, equation.outvars[0]):
        if not hasattr(variable, "val"):
          array = source(variable).aval
          found[id(source(variable))] = array.size * array.dtype.itemsize
    elif name in SAME and not hasattr(equation.invars[0], "val"):
      origin[equation.outvars[0]] = equation.invars[0]
  return total


# Rates.

SIDE, CHANNELS, MATRIX, COPIED = 64, 512, 2048, 1 << 26


def operations(kind: str) -> float:
  """Operations of `plain` of a kind; bytes of the copy."""
  return {
    "convolution": 2.0 * 9 * CHANNELS**2 * SIDE**2,
    "matrix": 2.0 * MATRIX**3,
    "copy": 2.0 * 4 * COPIED,
  }[kind]


def in_jax(kind: str) -> Callable[[], Any]:
  """A plain product, or a copy, of float32 by XLA."""
  import jax
  import jax.numpy as jnp

  if kind == "convolution":
    x = jnp.ones((1, SIDE, SIDE, CHANNELS))
    kernel = jnp.ones((3, 3, CHANNELS, CHANNELS))

    def run(x: Any, kernel: Any) -> Any:
      numbers = ("NHWC", "HWIO", "NHWC")
      return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers
      )

    arguments: tuple[Any, ...] = (x, kernel)
  elif kind == "matrix":
    arguments = (jnp.ones((MATRIX, MATRIX)),) * 2
    run = jnp.matmul
  else:
    arguments = (jnp.ones(COPIED),)

    def run(x: Any) -> Any:  # type: ignore[misc]
      return x + 1

  compiled = jax.jit(run)
  return lambda: jax.block_until_ready(compiled(*arguments))


def in_torch(kind: str, device: str) -> Callable[[], Any]:
  """The same by PyTorch."""
  import torch

  if kind == "convolution":
    x = torch.ones(1, CHANNELS, SIDE, SIDE, device=device)
    kernel = torch.ones(CHANNELS, CHANNELS, 3, 3, device=device)
    return lambda: torch.nn.functional.conv2d(x, kernel, padding=1)
  if kind == "matrix":
    x = torch.ones(MATRIX, MATRIX, device=device)
    return lambda: x @ x
  x = torch.ones(COPIED, device=device)
  return lambda: x + 1


def make_roof(
  library: str, device: str = "cpu"
) -> tuple[Callable[[], Any], dict[str, Any]]:
  """All three, each at its best of five; the facts are their rates."""
  rates = {}
  for kind in ("convolution", "matrix", "copy"):
    run = in_jax(kind) if library == "jax" else in_torch(kind, device)
    run()
    times = []
    for _ in range(5):
      began = time.perf_counter()
      run()
      times.append(time.perf_counter() - began)
    rates[kind] = operations(kind) / min(times)
  return run, {"rates": rates}
