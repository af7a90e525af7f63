"""Ranger, the optimizer of the originals, from its parts.

    gradient -> centralize -> rectified Adam -> * -rate -> lookahead -> update

Gradient centralisation: Yong et al. 2020, arXiv 2004.01461. Rectified Adam: Liu
et al. 2019, arXiv 1908.03265. Lookahead: Zhang et al. 2019, arXiv 1907.08610.
Their namesakes in optax differ: they count steps for all parameters together,
and have epsilon elsewhere.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from encoder4editing_jax.training import tensors
from encoder4editing_jax.training.adam import (
  Moments,
  bias,
  no_moments,
  update_moments,
)
from encoder4editing_jax.training.tensors import Describe, Tensor, beside


def centralize(
  describe: Describe = tensors.describe,
) -> optax.GradientTransformation:
  """Takes the mean off gradients, over the axes that `describe` names."""

  def centre(tensor: Tensor, gradient: Array) -> Array:
    if axes := tensor.mean_axes(gradient.ndim):
      gradient = gradient - gradient.mean(axes, keepdims=True)
    return gradient

  return optax.stateless(
    lambda gradients, _: tensors.map_tensors(centre, describe, gradients)
  )


def rectification(
  steps: Int[Array, "*n"], b2: float, threshold: float
) -> tuple[Bool[Array, "*n"], Float[Array, "*n"]]:
  """Whether to adapt, and then sqrt(1 - b2^t) r_t (algorithm 2), else 1.

  The averaged window is rho_t = rho_inf - 2 t b2^t / (1 - b2^t), at first a
  small difference of large numbers. With x = -t log(b2) it equals

      (rho_inf + 2 / log(b2)) + 2 t h(x),    h(x) = 1 / x - 1 / (exp(x) - 1),

  whose first term is small and constant.
  """
  t = steps.astype(jnp.float32)
  x = -t * math.log(b2)
  # Up to x = 1 the Taylor series of h is exact to float32.
  series = 1 / 2 - x / 12 * (1 - x**2 / 60 * (1 - x**2 / 42 * (1 - x**2 / 40)))
  h = jnp.where(x < 1, series, 1 / x - 1 / jnp.expm1(x))
  limit = 2 / (1 - b2) - 1
  rho = (limit + 2 / math.log(b2)) + 2 * t * h
  adapt = rho > threshold
  scale = limit / ((limit - 4) * (limit - 2))
  r = jnp.sqrt(scale * jnp.maximum((rho - 4) * (rho - 2), 0) / rho)
  return adapt, jnp.where(adapt, jnp.sqrt(bias(b2, steps)) * r, 1.0)


def scale_by_rectified_adam(
  *,
  b1: float = 0.95,
  b2: float = 0.999,
  eps: float = 1e-5,
  threshold: float = 5.0,
  weight_decay: float = 0.0,
  describe: Describe = tensors.describe,
) -> optax.GradientTransformation:
  """Gradients to the directions of rectified Adam.

  Args:
    b1: decay of the mean of gradients.
    b2: decay of the mean of their squares.
    eps: added to the square root of the raw mean of squares, not of the
      corrected one as in the paper: it weighs more in the first steps.
    threshold: a tensor's updates are plain momentum until the averaged window
      is longer than this (its first 5 steps).
    weight_decay: decoupled, times the learning rate; sleeping tensors have
      none.
    describe: what the leaves are.
  """

  def direction(n: Array, mean: Array, square: Array, p: Array) -> Array:
    steps = jnp.maximum(n, 1)
    adapt, gain = rectification(steps, b2, threshold)
    adapted = mean / (jnp.sqrt(square) + eps)
    d = jnp.where(beside(adapt, mean), adapted, mean)
    d = d * beside(gain / bias(b1, steps), mean)
    return d + weight_decay * jnp.where(beside(n > 0, p), p, 0)

  def update(
    gradients: Any, moments: Moments, parameters: Any
  ) -> tuple[Any, Moments]:
    moments = update_moments(moments, gradients, b1, b2)
    return jax.tree.map(direction, *moments, parameters), moments

  return optax.GradientTransformation(
    lambda parameters: no_moments(describe, parameters), update
  )


class SlowWeights(NamedTuple):
  """State of `lookahead`."""

  count: Any
  """Steps of each tensor since its first update, see `tensors`."""
  slow: Any
  """The slow weights, at first those before the first update."""


def lookahead(
  every: int = 6, alpha: float = 0.5, describe: Describe = tensors.describe
) -> optax.GradientTransformation:
  """Brings a tensor and its slow weights together after every few steps.

  The slow weights move the fraction `alpha` of the way, and the tensor the
  rest of it back. Stands last in a chain: it needs the updates as they are
  applied.
  """

  def init(parameters: Any) -> SlowWeights:
    # Copies, because the parameters may be donated.
    slow = jax.tree.map(jnp.copy, parameters)
    return SlowWeights(tensors.no_steps(describe, parameters), slow)

  def update(
    updates: Any, state: SlowWeights, parameters: Any
  ) -> tuple[Any, SlowWeights]:
    count = tensors.count_steps(state.count, updates)

    def move(n: Array, slow: Array, p: Array, u: Array) -> Array:
      due = beside(n % every == 0, p)
      return jnp.where(due, slow + alpha * (p + u - slow), slow)

    def pull(n: Array, slow: Array, p: Array, u: Array) -> Array:
      return jnp.where(beside(n % every == 0, p), slow - p, u)

    slow = jax.tree.map(move, count, state.slow, parameters, updates)
    updates = jax.tree.map(pull, count, slow, parameters, updates)
    return updates, SlowWeights(count, slow)

  return optax.GradientTransformation(init, update)


def ranger(
  learning_rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float = 0.0,
  describe: Describe = tensors.describe,
) -> optax.GradientTransformation:
  """Ranger with the constants of the originals.

  Args:
    learning_rate: a number, or a function of the step of the whole run.
    weight_decay: see `scale_by_rectified_adam`.
    describe: what the leaves are.
  """
  return optax.chain(
    centralize(describe),
    scale_by_rectified_adam(weight_decay=weight_decay, describe=describe),
    optax.scale_by_learning_rate(learning_rate),
    lookahead(describe=describe),
  )
