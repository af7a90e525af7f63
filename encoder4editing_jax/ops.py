"""Array operations of StyleGAN2 and the encoders (1912.04958, 2102.02766).

Pure functions, channels last. Images are `[b h w c]`, convolution kernels
`[k k i o]`. Whatever resamples does so with fixed filters in float32.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encoder4editing_jax import phases, winograd
from encoder4editing_jax.resampling import (
  adaptive_avg_pool as adaptive_avg_pool,
  nearest_index as nearest_index,
  resize_align_corners as resize_align_corners,
  resize_nearest as resize_nearest,
)

EPSILON = 1e-8
NARROW = 128
"""Channels of maps up to which GPUs fold the filter into the convolution."""


def pixel_norm(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
  """Scales every vector to unit mean square (StyleGAN, section 2)."""
  return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + EPSILON)


def _per_channel(v: Float[Array, " c"], ndim: int) -> Float[Array, "..."]:
  return v.reshape((1,) * (ndim - 1) + (-1,))


def fused_leaky_relu(
  x: Float[Array, "*b c"], bias: Float[Array, " c"] | None = None
) -> Float[Array, "*b c"]:
  """`sqrt(2) * leaky_relu(x + bias)` with slope 0.2: keeps unit variance."""
  if bias is not None:
    x = x + _per_channel(bias, x.ndim).astype(x.dtype)
  return jax.nn.leaky_relu(x, 0.2) * math.sqrt(2)


def _fir_axis(
  x: Array,
  taps: Sequence[Any],
  axis: int,
  up: int,
  down: int,
  pad: tuple[int, int],
) -> Array:
  """One axis of `upfirdn2d` as a sum of shifted slices."""
  config = [(0, 0, 0)] * x.ndim
  config[axis] = (pad[0], pad[1] + up - 1, up - 1)
  x = jax.lax.pad(x, jnp.zeros((), x.dtype), config)
  size = (x.shape[axis] - len(taps)) // down + 1
  if size < 1:
    raise ValueError(
      f"{len(taps)} filter taps do not fit {x.shape[axis]} padded samples; "
      "pad more or use a larger map."
    )

  def shifted(k: int) -> Array:
    stop = k + (size - 1) * down + 1
    return jax.lax.slice_in_dim(x, k, stop, down, axis)

  flipped = taps[::-1]  # a true convolution
  return sum(shifted(k) * flipped[k] for k in range(len(taps)))


def upfirdn2d(
  x: Float[Array, "b h w c"],
  kernel: Float[Array, "..."] | np.ndarray | Sequence[float],
  up: int = 1,
  down: int = 1,
  pad: tuple[int, int] = (0, 0),
) -> Float[Array, "b h2 w2 c"]:
  """Inserts zeros, pads, filters, keeps every `down`-th sample (any parity).

  Args:
    x: maps.
    kernel: `[k]`, applied along both axes, or `[kh kw]`. The convolution is a
      true one (flipped kernel).
    up: a sample is followed by `up - 1` zeros.
    down: stride of the output.
    pad: samples added before and after, on both axes; negative ones crop.

  Raises:
    ValueError: `up` or `down` is below 1, or the padded map is smaller than
      the filter.
  """
  if up < 1 or down < 1:
    raise ValueError(f"up={up}, down={down}: pass 1 or more.")
  if jnp.ndim(kernel) == 1:
    taps = [kernel[k] for k in range(len(kernel))]
    taps = [jnp.asarray(tap, x.dtype) for tap in taps]
    return _fir_axis(
      _fir_axis(x, taps, 1, up, down, pad), taps, 2, up, down, pad
    )
  kernel = jnp.asarray(kernel, x.dtype)[::-1, ::-1, None, None]
  c = x.shape[-1]
  return jax.lax.conv_general_dilated(
    x,
    jnp.tile(kernel, (1, 1, 1, c)),
    (down, down),
    [(pad[0], pad[1] + up - 1)] * 2,
    lhs_dilation=(up, up),
    dimension_numbers=phases.NHWC,
    feature_group_count=c,
  )


def blur(
  x: Float[Array, "b h w c"], pad: tuple[int, int], gain: float = 1.0
) -> Float[Array, "b h2 w2 c"]:
  """Filters with `[1 3 3 1]` on both axes; `gain` multiplies the result."""
  return upfirdn2d(x, np.array(phases.FIR) * math.sqrt(gain), pad=pad)


def upsample2d(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
  """Doubles both sides: `[1 3 3 1]` after zero insertion, as two phases.

  Even samples are 1/4 x[i-1] + 3/4 x[i], odd ones 3/4 x[i] + 1/4 x[i+1], with
  zeros outside.
  """
  # Without the barrier XLA:CPU fuses a chain of upsampled skips into one loop
  # that computes every level anew for each tap: minutes of compilation.
  x = jax.lax.optimization_barrier(x)
  for axis in (1, 2):
    n = x.shape[axis]
    config = [(0, 0)] * x.ndim
    config[axis] = (1, 1)
    p = jnp.pad(x, config)
    before, centre, after = (
      jax.lax.slice_in_dim(p, k, k + n, axis=axis) for k in range(3)
    )
    phases = (before + 3 * centre) / 4, (3 * centre + after) / 4
    shape = (*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
    x = jnp.stack(phases, axis + 1).reshape(shape)
  return x


def downsample2d(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
  """Halves both sides with the filter `[1 3 3 1]`."""
  return upfirdn2d(x, np.array(phases.FIR), down=2, pad=(1, 1))


def modulated_conv2d(
  x: Float[Array, "b h w i"],
  kernel: Float[Array, "k k i o"],
  style: Float[Array, "b i"],
  *,
  demodulate: bool = True,
  up: int = 1,
  down: int = 1,
) -> Float[Array, "b h2 w2 o"]:
  """Modulated convolution (StyleGAN2, equations 1 and 3) with shared weights.

  Scaling the input channels by the style and the outputs by the demodulation
  factor equals scaling the kernel of each sample, and needs one convolution
  for the whole batch.

  Args:
    x: maps.
    kernel: unscaled weights; multiplied by `1 / sqrt(k * k * i)` here. With
      `up=2` the two spatial axes are those of a plain convolution over the
      zero-inserted map, i.e. flipped relative to PyTorch's transposed one.
    style: scale of each input channel, around 1.
    demodulate: restore unit variance of the outputs.
    up: 2 doubles the sides (transposed 3x3 convolution, then FIR).
    down: 2 halves the sides (FIR, then strided convolution).

  Raises:
    ValueError: `up=2` with a kernel that is not 3x3, or `up` and `down` that
      are not (1, 1), (2, 1) or (1, 2).
  """
  k, _, i, _ = kernel.shape
  if (up, down) not in ((1, 1), (2, 1), (1, 2)):
    raise ValueError(f"up={up}, down={down}: pass 1 or 2, and one of them 1.")
  if up == 2 and k != 3:
    raise ValueError(f"up=2 takes 3x3 kernels, not {k}x{k}; pass up=1.")
  # The factor goes with the few styles, not with the many weights.
  scale = style.astype(jnp.float32) / math.sqrt(k * k * i)
  x = _scaled_conv(x, kernel.astype(x.dtype), scale, up, down)
  if demodulate:
    x = x * demodulation(kernel, scale)[:, None, None, :].astype(x.dtype)
  return x


def _scaled_conv(
  x: Float[Array, "b h w i"],
  kernel: Float[Array, "k k i o"],
  scale: Float[Array, "b i"],
  up: int,
  down: int,
) -> Float[Array, "b h2 w2 o"]:
  """Of maps whose channels are scaled."""

  def scaled_maps(x: Array, kernel: Array, scale: Array) -> Array:
    x, k = x * scale[:, None, None].astype(x.dtype), len(kernel)
    if up == 2:
      return _upsampled_conv(x, kernel)
    if down == 2:
      return phases.conv(blur(x, ((k + 2) // 2, (k + 1) // 2)), kernel, 0, 2)
    return (
      winograd.conv(x, kernel) if k == 3 else phases.conv(x, kernel, k // 2)
    )

  def scaled_weights(x: Array, kernel: Array, scale: Array) -> Array:
    own = kernel[0] * scale[:, :, None].astype(x.dtype)
    return jnp.einsum("bhwi,bio->bhwo", x, own)

  if len(kernel) == up == down == 1:  # to colours: few weights, large maps
    return jax.lax.platform_dependent(
      x,
      kernel,
      scale,
      cpu=scaled_weights,
      cuda=scaled_weights,
      default=scaled_maps,
    )
  return scaled_maps(x, kernel, scale)


def demodulation(
  kernel: Float[Array, "k k i o"], style: Float[Array, "b i"]
) -> Float[Array, "b o"]:
  """What restores unit variance after modulation (StyleGAN2, equation 3)."""
  kernel = kernel.astype(jnp.float32)
  # Tap by tap: XLA:CPU is many times slower at a sum over leading axes.
  squares = sum(kernel[i, j] ** 2 for i, j in np.ndindex(kernel.shape[:2]))
  energy = jnp.matmul(style**2, squares, precision="highest")
  return jax.lax.rsqrt(energy + EPSILON)


def _upsampled_conv(
  x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b h2 w2 o"]:
  """3x3 convolution over the zero-inserted map, then `[1 3 3 1]`."""

  def apart(x: Array, kernel: Array) -> Array:
    return blur(phases.transposed_conv(x, kernel), (1, 1), gain=4.0)

  def at_once(x: Array, kernel: Array) -> Array:
    return blur(phases.transposed_conv_at_once(x, kernel), (1, 1), gain=4.0)

  narrow = kernel.shape[2] <= NARROW
  return jax.lax.platform_dependent(
    x,
    kernel,
    cpu=phases.transposed_conv_blurred,
    cuda=phases.transposed_conv_folded if narrow else at_once,
    default=apart,
  )
