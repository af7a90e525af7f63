"""Codes and generators fitted to pictures, where an encoder is not near enough.

`optimise` moves codes (Image2StyleGAN, arXiv 1904.03189: L2 and LPIPS, Adam);
`tune` then moves the generator around fixed codes (pivotal tuning, 2106.05744,
section 3.1). Both are slow: hundreds of passes of the generator.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.models.inverter import crop_and_pool
from encoder4editing_jax.models.stylegan2 import Generator

Distance = Callable[[Array, Array], Array]


def _objective(
  painted: Array, images: Array, distance: Distance | None, lpips: float
) -> Float[Array, ""]:
  """The sum over examples of L2 and LPIPS: no example sees the others."""
  painted = crop_and_pool(painted, images.shape[1:3])
  total = jnp.square(painted - images).mean((1, 2, 3)).sum()
  if distance is None:
    return total
  return total + lpips * distance(painted, images).sum()


def _check(steps: int, lr: float) -> None:
  if steps < 1 or not lr > 0:
    raise ValueError(
      f"{steps} steps at learning rate {lr}; pass 1 and something above 0."
    )


def optimise(
  generator: Generator,
  images: Float[Array, "b h w 3"],
  w_plus: Float[Array, "b n d"],
  steps: int = 200,
  lr: float = 0.02,
  distance: Distance | None = None,
  lpips: float = 0.8,
) -> Float[Array, "b n d"]:
  """Codes whose pictures are nearer to `images`, with the stored noise.

  Args:
    generator: stays as it is.
    images: in [-1, 1]; the generator's are pooled to their size.
    w_plus: where to start, for example an encoder's.
    steps: of Adam.
    lr: of Adam; the scale is that of W.
    distance: an `LPIPS`; None for L2 alone.
    lpips: weight of that distance.

  Raises:
    ValueError: fewer than one step, or a rate that is not above 0.
  """
  _check(steps, lr)
  graph, state = nnx.split(generator)
  adam = optax.adam(lr)

  @jax.jit
  def run(state: Any, images: Array, w_plus: Array) -> Array:
    def loss(codes: Array) -> Array:
      painted = nnx.merge(graph, state).synthesis(codes)
      return _objective(painted, images, distance, lpips)

    def step(carry: tuple, _: None) -> tuple:
      codes, memory = carry
      updates, memory = adam.update(jax.grad(loss)(codes), memory)
      return (optax.apply_updates(codes, updates), memory), None

    start = (w_plus, adam.init(w_plus))
    return jax.lax.scan(step, start, None, steps)[0][0]

  return run(state, images, w_plus)


def tune(
  generator: Generator,
  images: Float[Array, "b h w 3"],
  w_plus: Float[Array, "b n d"],
  steps: int = 350,
  lr: float = 3e-4,
  distance: Distance | None = None,
  lpips: float = 1.0,
) -> Generator:
  """A copy of a generator that paints `images` from `w_plus`.

  Args:
    generator: not changed.
    images: in [-1, 1], all at once.
    w_plus: their codes, the pivots; they stay.
    steps: of Adam, as published 350.
    lr: of Adam.
    distance: see `optimise`.
    lpips: see `optimise`.

  Raises:
    ValueError: as `optimise`.
  """
  _check(steps, lr)
  synthesis = nnx.clone(generator.synthesis)
  graph, weights, rest = nnx.split(synthesis, nnx.Param, ...)
  adam = optax.adam(lr)

  def loss(weights: Any) -> Array:
    painted = nnx.merge(graph, weights, rest)(w_plus)
    return _objective(painted, images, distance, lpips) / len(images)

  @jax.jit
  def run(weights: Any) -> Any:
    def step(carry: tuple, _: None) -> tuple:
      weights, memory = carry
      updates, memory = adam.update(jax.grad(loss)(weights), memory)
      return (optax.apply_updates(weights, updates), memory), None

    start = (weights, adam.init(weights))
    return jax.lax.scan(step, start, None, steps)[0][0]

  tuned = nnx.clone(generator)
  tuned.synthesis = nnx.merge(graph, run(weights), rest)
  return tuned
