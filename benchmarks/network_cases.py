"""What the rows of `networks` compute, and with which network."""

from collections.abc import Callable
from typing import Any, NamedTuple

# Of each kind the sizes and the batches.
CASES = {
  "encoder": ((256,), (1, 8)),
  "synthesis": ((256, 512, 1024), (1,)),
  "gradient": ((256,), (1,)),
  "invert": ((1024,), (1, 8)),
}


class Case(NamedTuple):
  """What a row measures; `depthwise` is of the baseline alone."""

  kind: str
  size: int
  batch: int
  dtype: str
  depthwise: bool


def inverter(kind: str, size: int, seed: int = 0) -> Any:
  """What a kind of row needs of an e4e of that output size, drawn weights."""
  from flax import nnx
  from random_weights import randomised

  from encoder4editing_jax.models.encoders import Encoder4Editing
  from encoder4editing_jax.models.inverter import Inverter
  from encoder4editing_jax.models.stylegan2 import Generator

  def encoder() -> Any:
    n = 18 if kind == "encoder" else styles(size)
    return Encoder4Editing(n, rngs=nnx.Rngs(0))

  def generator() -> Any:
    return Generator(size, rngs=nnx.Rngs(0))

  if kind == "encoder":
    return randomised(encoder, seed)
  if kind in ("synthesis", "gradient"):
    return randomised(generator, seed).synthesis
  return randomised(lambda: Inverter(encoder(), generator()), seed)


def styles(size: int) -> int:
  """Of a generator of that size."""
  return 2 * (size.bit_length() - 1) - 2


def function(kind: str) -> Callable[[Any, Any], Any]:
  """What a row computes with a network."""
  import jax
  import jax.numpy as jnp

  if kind == "gradient":
    return lambda net, w: jax.grad(lambda w: jnp.square(net(w)).mean())(w)
  if kind == "invert":
    return lambda net, x: net.decode(net.encode(x))
  return lambda net, x: net(x)


def shape(case: Case) -> tuple[int, ...]:
  """Of the input."""
  if case.kind in ("encoder", "invert"):
    return (case.batch, 256, 256, 3)
  return (case.batch, styles(case.size), 512)
