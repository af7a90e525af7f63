"""What a computation must at least do, and what a machine can.

`count` reads the shapes of all products (convolutions, matrix products) in a
program: their operations, and the bytes of their operands and results, each
array once, as if everything else were fused into them. `make_roof` measures
what plain products and a copy reach here.
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

  return count_traced(jax.make_jaxpr(function)(*arguments))


def count_traced(program: Any) -> Count:
  """Of all products in a program, a `ClosedJaxpr`."""
  found: dict[int, int] = {}
  operations = _walk(program.jaxpr, {}, found)
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

KINDS = ("convolution", "matrix", "copy")
CHANNELS = 512


class Sizes(NamedTuple):
  """What is measured: of a few milliseconds, which waiting does not hide."""

  batch: int
  """Of 64 x 64 maps of `CHANNELS`."""
  matrix: int
  """Rows and columns."""
  copied: int
  """Numbers."""

  def operations(self, kind: str) -> float:
    """Operations of a kind; numbers that the copy reads and writes."""
    return {
      "convolution": 2.0 * 9 * CHANNELS**2 * 64**2 * self.batch,
      "matrix": 2.0 * self.matrix**3,
      "copy": 2.0 * self.copied,
    }[kind]


ON_CPU = Sizes(1, 2048, 1 << 26)
ON_ACCELERATORS = Sizes(64, 8192, 1 << 29)


def in_jax(kind: str, dtype: str) -> tuple[Callable[[], Any], Sizes]:
  """A plain product, or a copy, by XLA."""
  import jax
  import jax.numpy as jnp

  cpu = jax.default_backend() == "cpu"
  sizes = ON_CPU if cpu else ON_ACCELERATORS
  if kind == "convolution":
    x = jnp.ones((sizes.batch, 64, 64, CHANNELS), dtype)
    kernel = jnp.ones((3, 3, CHANNELS, CHANNELS), dtype)

    def run(x: Any, kernel: Any) -> Any:
      numbers = ("NHWC", "HWIO", "NHWC")
      return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers
      )

    arguments: tuple[Any, ...] = (x, kernel)
  elif kind == "matrix":
    arguments = (jnp.ones((sizes.matrix,) * 2, dtype),) * 2
    run = jnp.matmul
  else:
    arguments = (jnp.ones(sizes.copied, dtype),)

    def run(x: Any) -> Any:  # type: ignore[misc]
      return x + 1

  compiled = jax.jit(run)
  return lambda: jax.block_until_ready(compiled(*arguments)), sizes


def in_torch(kind: str, dtype: str) -> tuple[Callable[[], Any], Sizes]:
  """The same by PyTorch."""
  import torch

  cuda = torch.cuda.is_available()
  sizes = ON_ACCELERATORS if cuda else ON_CPU
  options = {
    "device": "cuda" if cuda else "cpu",
    "dtype": getattr(torch, dtype),
  }
  if kind == "convolution":
    x = torch.ones(sizes.batch, CHANNELS, 64, 64, **options)
    kernel = torch.ones(CHANNELS, CHANNELS, 3, 3, **options)
  elif kind == "matrix":
    x = torch.ones(sizes.matrix, sizes.matrix, **options)
  else:
    x = torch.ones(sizes.copied, **options)

  def run() -> None:
    if kind == "convolution":
      torch.nn.functional.conv2d(x, kernel, padding=1)
    elif kind == "matrix":
      torch.matmul(x, x)
    else:
      torch.add(x, 1)
    if cuda:
      torch.cuda.synchronize()

  return run, sizes


def make_roof(
  library: str, dtype: str
) -> tuple[Callable[[], Any], dict[str, Any]]:
  """All three, each at its best of five; the facts are their rates, of the copy
  in bytes."""
  rates = {}
  for kind in KINDS:
    run, sizes = (in_jax if library == "jax" else in_torch)(kind, dtype)
    run()
    times = []
    for _ in range(5):
      began = time.perf_counter()
      run()
      times.append(time.perf_counter() - began)
    rates[kind] = sizes.operations(kind) / min(times)
  rates["copy"] *= {"float32": 4, "bfloat16": 2}[dtype]
  return run, {"rates": rates}
