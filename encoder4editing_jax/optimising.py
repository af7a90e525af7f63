"""Codes and generators fitted to pictures, where an encoder is not near enough.

`optimise` moves codes (Image2StyleGAN, arXiv 1904.03189: L2 and LPIPS, Adam);
`tune` then moves the generator around fixed codes (pivotal tuning, 2106.05744,
section 3.1). Both are slow: hundreds of passes of the generator.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.compiling import compiled
from encoder4editing_jax.config_optim import OPTIMISE_LR, TUNE_LR
from encoder4editing_jax.models.inverter import crop_and_pool
from encoder4editing_jax.models.lpips import LPIPS
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.models.synthesis import Synthesis


class _Aim(NamedTuple):
  """Pictures, their codes, the rate of Adam and the weight of LPIPS."""

  images: Any
  w_plus: Any
  lr: Any
  lpips: Any


def _objective(
  painted: Array, aim: _Aim, distance: LPIPS | None
) -> Float[Array, ""]:
  """The sum over examples of L2 and LPIPS: no example sees the others."""
  painted = crop_and_pool(painted, aim.images.shape[1:3])
  total = jnp.square(painted - aim.images).mean((1, 2, 3)).sum()
  if distance is None:
    return total
  return total + aim.lpips * distance(painted, aim.images).sum()


def _check(steps: int, lr: float) -> None:
  if steps < 1 or not lr > 0:
    raise ValueError(
      f"{steps} steps at learning rate {lr}; pass 1 and something above 0."
    )


def optimise(
  generator: Generator,
  images: Float[Array | np.ndarray, "b h w 3"],
  w_plus: Float[Array | np.ndarray, "b n d"],
  steps: int = 200,
  lr: float = OPTIMISE_LR,
  distance: LPIPS | None = None,
  lpips: float = 0.8,
) -> Float[Array, "b n d"]:
  """Codes whose pictures are nearer to `images`, with the stored noise.

  Args:
    generator: stays as it is.
    images: in [-1, 1]; the generator's are pooled to their size.
    w_plus: where to start, for example an encoder's.
    steps: of Adam.
    lr: of Adam; the scale is that of W.
    distance: None for L2 alone.
    lpips: weight of that distance.

  Raises:
    ValueError: fewer than one step, or a rate that is not above 0.
  """
  _check(steps, lr)
  run = compiled(_optimise, generator.synthesis, distance, steps=steps)
  return run(_Aim(images, w_plus, lr, lpips))


def _optimise(
  synthesis: Synthesis, distance: LPIPS | None, aim: _Aim, steps: int
) -> Array:
  def loss(codes: Array) -> Array:
    return _objective(synthesis(codes), aim, distance)

  return _descend(loss, aim.w_plus, aim.lr, steps)


def _descend(
  loss: Callable[[Any], Array], start: Any, lr: Array, steps: int
) -> Any:
  """What Adam makes of a tree of arrays."""
  adam = optax.adam(lr)

  def step(carry: tuple, _: None) -> tuple:
    now, memory = carry
    updates, memory = adam.update(jax.grad(loss)(now), memory)
    return (optax.apply_updates(now, updates), memory), None

  return jax.lax.scan(step, (start, adam.init(start)), None, steps)[0][0]


def tune(
  generator: Generator,
  images: Float[Array | np.ndarray, "b h w 3"],
  w_plus: Float[Array | np.ndarray, "b n d"],
  steps: int = 350,
  lr: float = TUNE_LR,
  distance: LPIPS | None = None,
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
  run = compiled(_tune, generator.synthesis, distance, steps=steps)
  tuned = nnx.clone(generator)
  nnx.update(tuned.synthesis, run(_Aim(images, w_plus, lr, lpips)))
  return tuned


def _tune(
  synthesis: Synthesis, distance: LPIPS | None, aim: _Aim, steps: int
) -> Any:
  """The parameters after tuning."""
  graph, weights, rest = nnx.split(synthesis, nnx.Param, ...)

  def loss(weights: Any) -> Array:
    painted = nnx.merge(graph, weights, rest)(aim.w_plus)
    return _objective(painted, aim, distance) / len(aim.images)

  return _descend(loss, weights, aim.lr, steps)
