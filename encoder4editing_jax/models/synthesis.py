"""Layers of the StyleGAN2 generator (arXiv 1912.04958, figure 2c and 7).

    w_plus [b n d] -> Synthesis -> image [b h w 3]

Style 0 drives the first convolution and style 1 the first ToRGB; block k takes
styles 2k+1, 2k+2 for its convolutions and 2k+3 for its ToRGB, so that a ToRGB
shares its style with the next block's first convolution.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import ops
from encoder4editing_jax.models import banded
from encoder4editing_jax.models.layers import (
  Buffer,
  EqualLinear,
  clamp,
  keep,
  normal,
)
from encoder4editing_jax.models.noise import (
  check_noise,
  example_keys,
  random_maps,
)

Noise = str | Sequence[Array]
"""'stored', 'random', 'none', or one array per layer."""


class Mapping(nnx.Module):
  """z to w: pixel norm, then `n_mlp` activated layers (StyleGAN, figure 1)."""

  def __init__(self, style_dim: int, n_mlp: int, lr_mlp: float, rngs: nnx.Rngs):
    self.layers = nnx.List(
      EqualLinear(style_dim, style_dim, lr_mul=lr_mlp, activate=True, rngs=rngs)
      for _ in range(n_mlp)
    )

  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b d"]:
    w = ops.pixel_norm(z)
    for layer in self.layers:
      w = layer(w)
    return w


class StyledConv(nnx.Module):
  """Modulated 3x3 convolution, noise, bias and leaky ReLU (figure 2c).

  `shape` is that of the output map; `up` doubles the sides of the input;
  `conv_clamp` bounds the result.
  """

  def __init__(
    self,
    in_features: int,
    features: int,
    shape: tuple[int, int],
    style_dim: int,
    *,
    up: int = 1,
    conv_clamp: float | None = None,
    rngs: nnx.Rngs,
  ):
    kernel_shape = (3, 3, in_features, features)
    self.kernel = nnx.Param(normal(rngs.params(), kernel_shape))
    self.modulation = EqualLinear(
      style_dim, in_features, bias_init=1.0, rngs=rngs
    )
    self.noise_strength = nnx.Param(jnp.zeros(()))
    self.noise = Buffer(normal(rngs.params(), (*shape, 1)))
    self.bias = nnx.Param(jnp.zeros(features))
    self.up = up
    self.conv_clamp = conv_clamp

  def __call__(
    self,
    x: Float[Array, "b h w i"],
    style: Float[Array, "b d"],
    noise: Array | None,
  ) -> Float[Array, "b h2 w2 o"]:
    x = ops.modulated_conv2d(
      x, self.kernel[...], self.modulation(style), up=self.up
    )
    return self.finish(x, noise)

  def scales(
    self, style: Float[Array, "b d"]
  ) -> tuple[Float[Array, "b i"], Float[Array, "b o"]]:
    """What its convolution's inputs and outputs are multiplied by."""
    kernel = self.kernel[...]
    scale = self.modulation(style).astype(jnp.float32)
    scale = scale / math.sqrt(9 * kernel.shape[2])
    return scale, ops.demodulation(kernel, scale)

  def finish(
    self, x: Float[Array, "b h w o"], noise: Array | None
  ) -> Float[Array, "b h w o"]:
    """What follows the convolution: noise, bias, leaky ReLU."""
    if noise is not None:
      x = x + (self.noise_strength[...] * noise).astype(x.dtype)
    x = ops.fused_leaky_relu(x, self.bias[...])
    return clamp(x, self.conv_clamp)


class ToRGB(nnx.Module):
  """Modulated 1x1 convolution to colours, without demodulation."""

  def __init__(
    self,
    in_features: int,
    style_dim: int,
    *,
    conv_clamp: float | None = None,
    rngs: nnx.Rngs,
  ):
    kernel_shape = (1, 1, in_features, 3)
    self.kernel = nnx.Param(normal(rngs.params(), kernel_shape))
    self.modulation = EqualLinear(
      style_dim, in_features, bias_init=1.0, rngs=rngs
    )
    self.bias = nnx.Param(jnp.zeros(3))
    self.conv_clamp = conv_clamp

  def __call__(
    self, x: Float[Array, "b h w i"], style: Float[Array, "b d"]
  ) -> Float[Array, "b h w 3"]:
    x = ops.modulated_conv2d(
      x, self.kernel[...], self.modulation(style), demodulate=False
    )
    x = x.astype(jnp.float32) + self.bias[...][None, None, None]
    return clamp(x, self.conv_clamp)


class SynthesisBlock(nnx.Module):
  """One resolution: an upsampling and a plain layer, added to the skip."""

  def __init__(
    self,
    in_features: int,
    features: int,
    shape: tuple[int, int],
    style_dim: int,
    *,
    conv_clamp: float | None = None,
    rngs: nnx.Rngs,
  ):
    options: dict[str, Any] = {"conv_clamp": conv_clamp, "rngs": rngs}
    self.conv0 = StyledConv(
      in_features, features, shape, style_dim, up=2, **options
    )
    self.conv1 = StyledConv(features, features, shape, style_dim, **options)
    self.to_rgb = ToRGB(features, style_dim, **options)

  def __call__(
    self,
    x: Float[Array, "b h w i"],
    image: Float[Array, "b h w 3"],
    styles: Sequence[Array],
    noises: Sequence[Array | None],
  ) -> tuple[Array, Array]:
    return banded.platform_block(self, x, image, styles, noises)

  def plain(
    self, x: Array, image: Array, styles: Any, noises: Any
  ) -> tuple[Array, Array]:
    """As the paper has it; some devices compute the same in other forms."""
    x = self.conv0(x, styles[0], noises[0])
    x = self.conv1(x, styles[1], noises[1])
    return x, ops.upsample2d(image) + self.to_rgb(x, styles[2])


class Synthesis(nnx.Module):
  """w_plus to image: a learned constant, then one block per doubling."""

  def __init__(
    self,
    channels: Sequence[int],
    constant_shape: tuple[int, int],
    style_dim: int,
    dtype: str,
    conv_clamp: float | None = None,
    *,
    rngs: nnx.Rngs,
  ):
    h, w = constant_shape
    options: dict[str, Any] = {"conv_clamp": conv_clamp, "rngs": rngs}
    constant = normal(rngs.params(), (h, w, channels[0]))
    self.constant = nnx.Param(constant)
    self.conv = StyledConv(
      channels[0], channels[0], (h, w), style_dim, **options
    )
    self.to_rgb = ToRGB(channels[0], style_dim, **options)
    self.blocks = nnx.List(
      SynthesisBlock(
        channels[k - 1], channels[k], (h << k, w << k), style_dim, **options
      )
      for k in range(1, len(channels))
    )
    self.n_styles = 2 * len(channels)
    self.dtype = dtype

  def _layers(self) -> list[StyledConv]:
    pairs = ((block.conv0, block.conv1) for block in self.blocks)
    return [self.conv, *(layer for pair in pairs for layer in pair)]

  def modulations(self) -> list[Array]:
    """The weights `[d i]` that make scales of styles, layer by layer.

    Layer k is fed by style k; the ToRGB layers are not among them.
    """
    return [layer.modulation.kernel[...] for layer in self._layers()]

  def noises(
    self, noise: Noise, batch: Any, key: Array | None = None
  ) -> list[Array | None]:
    """The noise maps of all layers, see `__call__`.

    `batch` is a number, or a symbol where the network is exported.
    """
    layers = self._layers()
    shapes = [layer.noise[...].shape for layer in layers]
    if not isinstance(noise, str):
      given: list[Any] = list(noise)
      check_noise(given, shapes, batch)
      return [maps.reshape((-1, *maps.shape[-3:])) for maps in given]
    if noise == "none":
      return [None] * len(layers)
    if noise == "stored":
      return [layer.noise[...][None] for layer in layers]
    if noise != "random":
      raise ValueError(
        f"noise={noise!r} is unknown; use 'stored', 'random' (with key=), "
        "'none' or a list of arrays."
      )
    if key is None:
      raise ValueError("noise='random' needs key=jax.random.key(seed).")
    return random_maps(example_keys(key, batch), shapes)

  def __call__(
    self,
    w_plus: Float[Array, "b n d"],
    noise: Noise = "stored",
    key: Array | None = None,
    return_features: bool = False,
  ) -> Float[Array, "b h w 3"] | tuple[Array, Array]:
    """Renders codes.

    Args:
      w_plus: one style per layer.
      noise: "stored" maps, fresh "random" ones, "none", or one array per layer
        (`[h w 1]` or `[b h w 1]`; first layer first).
      key: for random noise: one key, or one per example.
      return_features: also return the maps before the last ToRGB.

    Returns:
      Linear images, nominally in [-1, 1] and not clipped, in float32.

    Raises:
      ValueError: a wrong number of styles, or noise that does not fit.
    """
    if w_plus.ndim != 3:
      raise ValueError(
        f"w_plus has shape {w_plus.shape}; pass [b n d] (w of shape [b d]: "
        "generator.to_w_plus([w]))."
      )
    if w_plus.shape[1] != self.n_styles:
      raise ValueError(
        f"w_plus has {w_plus.shape[1]} styles, this generator takes "
        f"{self.n_styles}; use codes of an encoder with "
        f"n_styles={self.n_styles}."
      )
    batch = w_plus.shape[0]
    noises = self.noises(noise, batch, key)
    w = [w_plus[:, i] for i in range(self.n_styles)]
    x = jnp.tile(self.constant[...].astype(self.dtype), (batch, 1, 1, 1))
    x = keep(self.conv(x, w[0], noises[0]))
    image = self.to_rgb(x, w[1])
    for k, block in enumerate(self.blocks):
      i = 2 * k + 1
      x, image = keep(block(x, image, w[i : i + 3], noises[i : i + 2]))
    return (image, x) if return_features else image
