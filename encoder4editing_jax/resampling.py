"""Maps `[b h w c]` of one size as maps of another, as PyTorch has them."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _align_corners_matrix(n_in: int, n_out: int) -> np.ndarray:
  """Rows interpolate linearly between samples; the ends map to the ends."""
  source = np.arange(n_out) * ((n_in - 1) / max(n_out - 1, 1))
  distance = np.abs(source[:, None] - np.arange(n_in)[None])
  return np.maximum(1 - distance, 0)


def _adaptive_pool_matrix(n_in: int, n_out: int) -> np.ndarray:
  """Row i averages the samples floor(i n / m) to ceil((i + 1) n / m) - 1."""
  i = np.arange(n_out)
  start: np.ndarray = i * n_in // n_out
  stop: np.ndarray = -(-(i + 1) * n_in // n_out)
  k = np.arange(n_in)
  window = (k >= start[:, None]) & (k < stop[:, None])
  return window / window.sum(1, keepdims=True)


def _resample(
  x: Array, matrix: Callable[[int, int], np.ndarray], size: tuple[int, int]
) -> Array:
  for axis, n in zip((1, 2), size, strict=True):
    if x.shape[axis] == n:
      continue
    weights = jnp.asarray(matrix(x.shape[axis], n), jnp.float32)
    y = jnp.tensordot(x, weights, ((axis,), (1,)), precision="highest")
    x = jnp.moveaxis(y, -1, axis).astype(x.dtype)
  return x


def resize_align_corners(
  x: Float[Array, "b h w c"], size: tuple[int, int]
) -> Float[Array, "b h2 w2 c"]:
  """Bilinear resize in which corner pixels stay corner pixels."""
  return _resample(x, _align_corners_matrix, size)


def adaptive_avg_pool(
  x: Float[Array, "b h w c"], size: tuple[int, int]
) -> Float[Array, "b h2 w2 c"]:
  """Averages over near-equal windows; any size to any size, also enlarging."""

  def product(x: Array) -> Array:
    return _resample(x, _adaptive_pool_matrix, size)

  if any(n % m for n, m in zip(x.shape[1:3], size, strict=True)):
    return product(x)
  # Equal windows. For TPUs, which keep columns in rows of 128, a product.
  return jax.lax.platform_dependent(
    x, tpu=product, default=partial(_window_means, size=size)
  )


def _window_means(
  x: Float[Array, "b h w c"], size: tuple[int, int]
) -> Float[Array, "b h2 w2 c"]:
  for axis, n in zip((1, 2), size, strict=True):
    shape = (*x.shape[:axis], n, -1, *x.shape[axis + 1 :])
    x = x.reshape(shape).mean(axis + 1)
  return x


def resize_nearest(
  x: Float[Array, "b h w c"], size: tuple[int, int]
) -> Float[Array, "b h2 w2 c"]:
  """Nearest neighbour with source index floor(i * in / out), as PyTorch's."""
  for axis, n in zip((1, 2), size, strict=True):
    x = jnp.take(x, nearest_index(x.shape[axis], n), axis=axis)
  return x


def nearest_index(n_in: int, n_out: int) -> np.ndarray:
  """The sample that each of `n_out` nearest-neighbour outputs takes."""
  scale = np.float32(n_in) / np.float32(n_out)
  index = np.floor(np.arange(n_out, dtype=np.float32) * scale)
  return np.minimum(index.astype(np.int64), n_in - 1)
