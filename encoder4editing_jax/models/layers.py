"""Layers with the parametrisation of the originals.

Equalised learning rates are those of Progressive GAN (arXiv 1710.10196,
section 4.1): weights are stored at unit variance and scaled at run time.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from encoder4editing_jax import ops, winograd

KEPT = "block"  # what a rematerialised network keeps
DRAWN = 65536  # numbers at least: short draws share one compiled program


def keep(x: Any) -> Any:
  """Marks arrays as outputs of a block, between which `jax.checkpoint` with
  the policy `save_only_these_names(KEPT)` computes anew."""
  return jax.tree.map(lambda y: checkpoint_name(y, KEPT), x)


class Buffer(nnx.Variable):
  """An array that travels with the model and is not trained."""


def clamp(x: Float[Array, "*b c"], limit: float | None) -> Float[Array, "*b c"]:
  """Cut off at -limit and limit, as ADA's networks are; None changes nothing.

  They do so at 256 because half precision would overflow (arXiv 2006.06676).
  """
  return x if limit is None else jnp.clip(x, -limit, limit)


def normal(key: Array, shape: Sequence[int]) -> Float[Array, "..."]:
  """`jax.random.normal`, drawn flat, and cut from a longer row if short.

  XLA:CPU takes a quarter of a second to compile each length. The numbers are
  the same (`jax_threefry_partitionable`, JAX's default).
  """
  return _cut(jax.random.normal(key, _row(shape)), tuple(shape))


def _row(shape: Sequence[int]) -> tuple[int]:
  return (max(math.prod(shape), DRAWN),)


@partial(jax.jit, static_argnums=1)
def _cut(row: Float[Array, " n"], shape: tuple[int, ...]) -> Array:
  return row[: math.prod(shape)].reshape(shape)


class EqualLinear(nnx.Module):
  """`x @ (kernel * lr_mul / sqrt(in)) + bias * lr_mul`, kernel `[i o]`.

  With `activate` the result passes `ops.fused_leaky_relu`. `lr_mul` divides
  the effective learning rate (StyleGAN: 0.01 in the mapping network).
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    *,
    lr_mul: float = 1.0,
    bias_init: float = 0.0,
    activate: bool = False,
    rngs: nnx.Rngs,
  ):
    shape = (in_features, out_features)
    self.kernel = nnx.Param(normal(rngs.params(), shape) / lr_mul)
    self.bias = nnx.Param(jnp.full((out_features,), bias_init))
    self.lr_mul = lr_mul
    self.activate = activate

  def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
    kernel, bias = self.kernel[...], self.bias[...] * self.lr_mul
    kernel = kernel * (self.lr_mul / math.sqrt(kernel.shape[0]))
    x = jnp.matmul(x, kernel, precision="highest")
    if self.activate:
      return ops.fused_leaky_relu(x, bias)
    return x + bias.reshape((1,) * (x.ndim - 1) + (-1,))


class EqualConv(nnx.Module):
  """Convolution with equalised learning rate, kernel `[k k i o]`."""

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    use_bias: bool = True,
    rngs: nnx.Rngs,
  ):
    shape = (kernel_size, kernel_size, in_features, out_features)
    self.kernel = nnx.Param(normal(rngs.params(), shape))
    self.bias = nnx.Param(jnp.zeros(out_features)) if use_bias else None
    self.stride = stride
    self.padding = padding

  def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
    kernel = self.kernel[...]
    x = jax.lax.conv_general_dilated(
      x,
      (kernel / math.sqrt(math.prod(kernel.shape[:3]))).astype(x.dtype),
      (self.stride, self.stride),
      [(self.padding, self.padding)] * 2,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    if self.bias is None:
      return x
    return x + self.bias[...].astype(x.dtype)[None, None, None]


def uniform_init(fan_in: int) -> Callable[..., Array]:
  """PyTorch's default for weights and biases: U(-1, 1) / sqrt(fan_in)."""
  bound = 1 / math.sqrt(fan_in)

  def init(
    key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32
  ) -> Array:
    row = jax.random.uniform(key, _row(shape), dtype, -bound, bound)
    return _cut(row, tuple(shape))  # see `normal`

  return init


def conv(
  in_features: int,
  out_features: int,
  kernel_size: int,
  *,
  stride: int = 1,
  padding: int = 0,
  use_bias: bool = False,
  dtype: Any = None,
  rngs: nnx.Rngs,
) -> nnx.Conv:
  """A convolution with symmetric padding and PyTorch's initial weights."""
  init = uniform_init(kernel_size * kernel_size * in_features)
  known = {(3, 1, 1): _conv_3x3, (1, 1, 0): _conv_1x1}
  return nnx.Conv(
    in_features,
    out_features,
    (kernel_size, kernel_size),
    strides=(stride, stride),
    padding=((padding, padding),) * 2,  # a list has no hash
    use_bias=use_bias,
    kernel_init=init,
    bias_init=init,
    dtype=dtype,
    conv_general_dilated=known.get(
      (kernel_size, stride, padding), jax.lax.conv_general_dilated
    ),
    rngs=rngs,
  )


def _conv_3x3(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
  """As `jax.lax.conv_general_dilated`, for layers of stride 1, padding 1."""
  return winograd.conv(x, kernel)


def _conv_1x1(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
  """As `jax.lax.conv_general_dilated`, for layers of stride 1: a product, or
  for maps of one pixel a sum, which a GPU computes with what is around it."""
  if x.shape[1] == x.shape[2] == 1:
    return (x[..., None, :] * kernel[0, 0].T[None, None, None]).sum(-1)
  return jnp.einsum("bhwi,io->bhwo", x, kernel[0, 0])


def linear(
  in_features: int, out_features: int, *, dtype: Any = None, rngs: nnx.Rngs
) -> nnx.Linear:
  """A linear layer with PyTorch's initial weights."""
  init = uniform_init(in_features)
  return nnx.Linear(
    in_features,
    out_features,
    kernel_init=init,
    bias_init=init,
    dtype=dtype,
    rngs=rngs,
  )


def max_pool(
  x: Float[Array, "b h w c"],
  window: int,
  stride: int,
  *,
  padding: int = 0,
  round_up: bool = False,
) -> Float[Array, "b h2 w2 c"]:
  """Largest value of each window, `window` >= `stride`.

  With `round_up` (PyTorch's `ceil_mode`) the last row and column that no whole
  window covers get one that reaches over the edge.
  """

  def edges(n: int) -> tuple[int, int]:
    over = (window - n - 2 * padding) % stride if round_up else 0
    return padding, padding + over

  return nnx.max_pool(
    x, (window, window), (stride, stride), [edges(n) for n in x.shape[1:3]]
  )


MOMENTUM = 0.9  # share of running statistics that a step keeps


class BatchNorm(nnx.Module):
  """Batch normalisation as PyTorch computes it (arXiv 1502.03167).

  Normalises with the biased variance and tracks the unbiased one, over the
  last axis. Statistics are float32, and those of all devices together when
  `axis_name` names a mapped axis. `train()` switches to batch statistics,
  `eval()` (the state after construction) to the running ones.
  """

  def __init__(
    self,
    features: int,
    *,
    axis_name: str | None = None,
    affine: bool = True,
    momentum: float = MOMENTUM,
    epsilon: float = 1e-5,
    rngs: nnx.Rngs,
  ):
    del rngs  # nothing here is random
    self.scale = nnx.Param(jnp.ones(features)) if affine else None
    self.bias = nnx.Param(jnp.zeros(features)) if affine else None
    self.mean = nnx.BatchStat(jnp.zeros(features))
    self.var = nnx.BatchStat(jnp.ones(features))
    self.axis_name = axis_name
    self.momentum = momentum
    self.epsilon = epsilon
    self.use_running_average = True

  def _batch_statistics(self, x: Float[Array, "*b c"]) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - 1))
    n = x.size // x.shape[-1]

    def over_devices(v: Array) -> Array:
      return v if self.axis_name is None else jax.lax.pmean(v, self.axis_name)

    if self.axis_name is not None:
      n = n * jax.lax.axis_size(self.axis_name)
    mean = over_devices(x.mean(axes))
    centred = x - mean.reshape((1,) * len(axes) + (-1,))
    var = over_devices((centred**2).mean(axes))
    keep = self.momentum
    unbiased = var * (n / max(n - 1, 1))
    # Not `self.mean[...] = `, which asks tracers where they lie: they search
    # the whole program for an answer, and tracing took many times as long.
    self.mean.set_value(keep * self.mean[...] + (1 - keep) * mean)
    self.var.set_value(keep * self.var[...] + (1 - keep) * unbiased)
    return mean, var

  def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    dtype = x.dtype
    x = x.astype(jnp.float32)
    if self.use_running_average:
      mean, var = self.mean[...], self.var[...]
    else:
      mean, var = self._batch_statistics(x)
    gain = jax.lax.rsqrt(var + self.epsilon)
    if self.scale is not None:
      gain = gain * self.scale[...]
    shift = -mean * gain
    if self.bias is not None:
      shift = shift + self.bias[...]
    shape = (1,) * (x.ndim - 1) + (-1,)
    return (x * gain.reshape(shape) + shift.reshape(shape)).astype(dtype)


class PReLU(nnx.Module):
  """Leaky ReLU with one learned slope per channel (arXiv 1502.01852)."""

  def __init__(self, features: int, *, rngs: nnx.Rngs):
    del rngs  # nothing here is random
    self.slope = nnx.Param(jnp.full((features,), 0.25))

  def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    slope = self.slope[...].astype(x.dtype)
    return jnp.where(x >= 0, x, x * slope.reshape((1,) * (x.ndim - 1) + (-1,)))
