"""Adam as PyTorch has it: with a count of steps for each tensor.

Kingma and Ba 2015, arXiv 1412.6980, algorithm 1. The namesake in optax counts
steps for all parameters together: a style head that wakes late would take its
first steps without the bias correction, three times as long.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from encoder4editing_jax.training import tensors
from encoder4editing_jax.training.tensors import Describe, beside


class Moments(NamedTuple):
  """State of Adam and its kin."""

  count: Any
  """Steps of each tensor since its first gradient, see `tensors`."""
  mean: Any
  """Moving average of the gradient."""
  square: Any
  """Moving average of its square."""


def no_moments(describe: Describe, parameters: Any) -> Moments:
  """The state before the first step."""
  return Moments(
    tensors.no_steps(describe, parameters),
    jax.tree.map(jnp.zeros_like, parameters),
    jax.tree.map(jnp.zeros_like, parameters),
  )


def update_moments(
  moments: Moments, gradients: Any, b1: float, b2: float
) -> Moments:
  """The state after one more gradient; that of a sleeping tensor stays 0."""
  return Moments(
    tensors.count_steps(moments.count, gradients),
    optax.tree.update_moment(gradients, moments.mean, b1, 1),
    optax.tree.update_moment(gradients, moments.square, b2, 2),
  )


def bias(decay: float, steps: Array) -> Array:
  """`1 - decay ** steps`, exact also where the power is close to 1."""
  return -jnp.expm1(steps.astype(jnp.float32) * math.log(decay))


def scale_by_adam(
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  describe: Describe = tensors.describe,
) -> optax.GradientTransformation:
  """Gradients to the directions of Adam.

  Args:
    b1: decay of the mean of gradients.
    b2: decay of the mean of their squares.
    eps: added to the square root of the corrected mean of squares.
    describe: what the leaves are.
  """

  def direction(n: Array, mean: Array, square: Array) -> Array:
    steps = beside(jnp.maximum(n, 1), mean)
    root = jnp.sqrt(square / bias(b2, steps))
    return mean / bias(b1, steps) / (root + eps)

  def update(
    gradients: Any, moments: Moments, parameters: Any = None
  ) -> tuple[Any, Moments]:
    del parameters
    moments = update_moments(moments, gradients, b1, b2)
    return jax.tree.map(direction, *moments), moments

  return optax.GradientTransformation(
    lambda parameters: no_moments(describe, parameters), update
  )


def adam(
  learning_rate: optax.ScalarOrSchedule,
  *,
  describe: Describe = tensors.describe,
) -> optax.GradientTransformation:
  """Adam with the constants of the originals, which are PyTorch's.

  Args:
    learning_rate: a number, or a function of the step of the whole run.
    describe: what the leaves are.
  """
  return optax.chain(
    scale_by_adam(describe=describe),
    optax.scale_by_learning_rate(learning_rate),
  )
