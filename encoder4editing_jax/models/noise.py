"""Noise maps of synthesis: drawn, or given (StyleGAN, arXiv 1812.04948, 3.2).

One key for each example, so that noise does not depend on the batch's split.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def typed_key(key: Array) -> Array:
  """A typed key, from one or from raw `uint32` key data."""
  if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    return key
  return jax.random.wrap_key_data(key)


def example_keys(key: Array, batch: Any) -> Array:
  """One key per example: noise then does not depend on the batch's split."""
  key = typed_key(key)
  return jax.random.split(key, batch) if key.ndim == 0 else key


def random_maps(keys: Array, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
  """Normal maps of all layers, cut from one draw per example."""
  sizes = [math.prod(shape) for shape in shapes]
  draw = jax.vmap(lambda key: jax.random.normal(key, (sum(sizes),)))(keys)
  parts = jnp.split(draw, np.cumsum(sizes)[:-1], axis=1)
  return [
    part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)
  ]


def check_noise(
  noise: Sequence[Array], shapes: Sequence[tuple[int, ...]], batch: int
) -> None:
  """Raises ValueError unless there is one map for each layer that fits it."""
  if len(noise) != len(shapes):
    raise ValueError(
      f"{len(noise)} noise maps given, this generator takes {len(shapes)}."
    )
  for i, (array, shape) in enumerate(zip(noise, shapes, strict=True)):
    if array.shape not in (shape, (1, *shape), (batch, *shape)):
      raise ValueError(
        f"noise[{i}] has shape {array.shape}; use {shape} or {(batch, *shape)}."
      )
