"""The StyleGAN2 generator (arXiv 1912.04958), skip architecture.

    z [b d] -> mapping -> w [b d] -> w_plus [b n d] -> synthesis -> [b s s 3]

A generator of side s has n = 2 log2(s) - 2 styles. Style 0 drives the first
convolution and style 1 the first ToRGB; block k takes styles 2k+1, 2k+2 for
its convolutions and 2k+3 for its ToRGB, so that a ToRGB shares its style with
the next block's first convolution.
"""

import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import ops
from encoder4editing_jax.models.layers import Buffer, EqualLinear

Noise = Literal["stored", "random", "none"] | Sequence[Array]


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

  `shape` is that of the output map; `up` doubles the sides of the input.
  """

  def __init__(
    self,
    in_features: int,
    features: int,
    shape: tuple[int, int],
    style_dim: int,
    *,
    up: int = 1,
    rngs: nnx.Rngs,
  ):
    kernel_shape = (3, 3, in_features, features)
    self.kernel = nnx.Param(jax.random.normal(rngs.params(), kernel_shape))
    self.modulation = EqualLinear(
      style_dim, in_features, bias_init=1.0, rngs=rngs
    )
    self.noise_strength = nnx.Param(jnp.zeros(()))
    self.noise = Buffer(jax.random.normal(rngs.params(), (*shape, 1)))
    self.bias = nnx.Param(jnp.zeros(features))
    self.up = up

  def __call__(
    self,
    x: Float[Array, "b h w i"],
    style: Float[Array, "b d"],
    noise: Array | None,
  ) -> Float[Array, "b h2 w2 o"]:
    x = ops.modulated_conv2d(
      x, self.kernel[...], self.modulation(style), up=self.up
    )
    if noise is not None:
      x = x + (self.noise_strength[...] * noise).astype(x.dtype)
    return ops.fused_leaky_relu(x, self.bias[...])


class ToRGB(nnx.Module):
  """Modulated 1x1 convolution to colours, without demodulation."""

  def __init__(self, in_features: int, style_dim: int, *, rngs: nnx.Rngs):
    kernel_shape = (1, 1, in_features, 3)
    self.kernel = nnx.Param(jax.random.normal(rngs.params(), kernel_shape))
    self.modulation = EqualLinear(
      style_dim, in_features, bias_init=1.0, rngs=rngs
    )
    self.bias = nnx.Param(jnp.zeros(3))

  def __call__(
    self, x: Float[Array, "b h w i"], style: Float[Array, "b d"]
  ) -> Float[Array, "b h w 3"]:
    x = ops.modulated_conv2d(
      x, self.kernel[...], self.modulation(style), demodulate=False
    )
    return x.astype(jnp.float32) + self.bias[...][None, None, None]


class SynthesisBlock(nnx.Module):
  """One resolution: an upsampling and a plain layer, added to the skip."""

  def __init__(
    self,
    in_features: int,
    features: int,
    shape: tuple[int, int],
    style_dim: int,
    *,
    rngs: nnx.Rngs,
  ):
    self.conv0 = StyledConv(
      in_features, features, shape, style_dim, up=2, rngs=rngs
    )
    self.conv1 = StyledConv(features, features, shape, style_dim, rngs=rngs)
    self.to_rgb = ToRGB(features, style_dim, rngs=rngs)

  def __call__(self, x, image, styles, noises) -> tuple[Array, Array]:
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
    *,
    rngs: nnx.Rngs,
  ):
    h, w = constant_shape
    constant = jax.random.normal(rngs.params(), (h, w, channels[0]))
    self.constant = nnx.Param(constant)
    self.conv = StyledConv(
      channels[0], channels[0], (h, w), style_dim, rngs=rngs
    )
    self.to_rgb = ToRGB(channels[0], style_dim, rngs=rngs)
    self.blocks = nnx.List(
      SynthesisBlock(
        channels[k - 1], channels[k], (h << k, w << k), style_dim, rngs=rngs
      )
      for k in range(1, len(channels))
    )
    self.n_styles = 2 * len(channels)
    self.dtype = dtype

  def _layers(self) -> list[StyledConv]:
    pairs = ((block.conv0, block.conv1) for block in self.blocks)
    return [self.conv, *(layer for pair in pairs for layer in pair)]

  def noises(
    self, noise: Noise, batch: int, key: Array | None = None
  ) -> list[Array | None]:
    """The noise maps of all layers, see `__call__`."""
    layers = self._layers()
    shapes = [layer.noise[...].shape for layer in layers]
    if not isinstance(noise, str):
      _check_noise(noise, shapes, batch)
      return list(noise)
    if noise == "none":
      return [None] * len(layers)
    if noise == "stored":
      return [layer.noise[...] for layer in layers]
    if noise != "random":
      raise ValueError(
        f"noise={noise!r} is unknown; use 'stored', 'random' (with key=), "
        "'none' or a list of arrays."
      )
    if key is None:
      raise ValueError("noise='random' needs key=jax.random.key(seed).")
    keys = _example_keys(key, batch)
    return [_normal(keys, i, shape) for i, shape in enumerate(shapes)]

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
    x = self.conv(x, w[0], noises[0])
    image = self.to_rgb(x, w[1])
    for k, block in enumerate(self.blocks):
      i = 2 * k + 1
      x, image = block(x, image, w[i : i + 3], noises[i : i + 2])
    return (image, x) if return_features else image


class Generator(nnx.Module):
  """StyleGAN2 generator of one size.

  Args:
    size: height of the output, a power of two from 8 to 1024.
    channel_base: maps of side r have `min(channel_base // r, channel_max)`
      channels. 32768 is config F ("channel multiplier 2"), 16384 config E.
    channel_max: see `channel_base`.
    style_dim: width of z and w.
    n_mlp: layers of the mapping network (8; 2 in some ADA configurations).
    lr_mlp: learning rate multiplier of the mapping network.
    constant_shape: (height, width) of the learned constant; `(4, 6)` makes
      images of 2:3.
    dtype: of the synthesis activations, "float32" or "bfloat16"; images are
      float32 in both.
    rngs: initial weights (`params`).

  Raises:
    ValueError: `size` is not such a power of two.
  """

  def __init__(
    self,
    size: int = 1024,
    *,
    channel_base: int = 32768,
    channel_max: int = 512,
    style_dim: int = 512,
    n_mlp: int = 8,
    lr_mlp: float = 0.01,
    constant_shape: tuple[int, int] = (4, 4),
    dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    levels = int(math.log2(size)) if size > 0 else 0
    if not 3 <= levels <= 10 or size != 2**levels:
      raise ValueError(
        f"Generator size {size} is not a power of two from 8 to 1024."
      )
    self.size = size
    self.channel_base = channel_base
    self.channel_max = channel_max
    self.style_dim = style_dim
    self.n_mlp = n_mlp
    self.lr_mlp = lr_mlp
    self.constant_shape = tuple(constant_shape)
    self.dtype = dtype
    channels = [self.channels(2**k) for k in range(2, levels + 1)]
    self.mapping = Mapping(style_dim, n_mlp, lr_mlp, rngs)
    self.synthesis = Synthesis(
      channels, self.constant_shape, style_dim, dtype, rngs=rngs
    )
    self.w_avg = Buffer(jnp.zeros(style_dim))

  @property
  def n_styles(self) -> int:
    """Number of styles, 2 log2(size) - 2."""
    return self.synthesis.n_styles

  @property
  def image_shape(self) -> tuple[int, int]:
    """(height, width) of the images."""
    h, w = self.constant_shape
    return h * self.size // 4, w * self.size // 4

  def channels(self, resolution: int) -> int:
    """Channels of the maps of one resolution (4, 8, ..., size)."""
    return min(self.channel_base // resolution, self.channel_max)

  def mean_latent(self, n: int, key: Array) -> Float[Array, " d"]:
    """Mean of w over `n` random z: the centre of truncation."""
    batch = 1000
    total = jnp.zeros(self.style_dim)
    for i, start in enumerate(range(0, n, batch)):
      shape = (min(batch, n - start), self.style_dim)
      z = jax.random.normal(jax.random.fold_in(key, i), shape)
      total = total + self.mapping(z).sum(0)
    return total / n

  def to_w_plus(
    self,
    styles: Sequence[Array],
    inject_index: int | None = None,
    key: Array | None = None,
  ) -> Float[Array, "b n d"]:
    """One or two sets of codes, `[b d]` or `[b n d]`, as `[b n d]`.

    Two are joined at the crossover `inject_index` (1 to n - 1; drawn with
    `key` if None): earlier styles come from the first (style mixing).
    """
    full = [
      w if w.ndim == 3 else jnp.repeat(w[:, None], self.n_styles, 1)
      for w in styles
    ]
    if len(full) == 1:
      return full[0]
    if len(full) != 2:
      raise ValueError(f"{len(full)} sets of styles given; pass one or two.")
    if inject_index is None:
      if key is None:
        raise ValueError("Style mixing needs inject_index= or key=.")
      inject_index = jax.random.randint(key, (), 1, self.n_styles)
    first = jnp.arange(self.n_styles) < inject_index
    return jnp.where(first[None, :, None], full[0], full[1])

  def __call__(
    self,
    styles: Array | Sequence[Array],
    *,
    input_is_latent: bool = False,
    inject_index: int | None = None,
    truncation_psi: float = 1.0,
    truncation_latent: Array | None = None,
    noise: Noise = "stored",
    key: Array | None = None,
    return_latents: bool = False,
    return_features: bool = False,
  ):
    """Images `[b h w 3]` from z (or from w, w_plus: `input_is_latent`).

    Args:
      styles: `[b d]` or `[b n d]`, or two of them to mix.
      input_is_latent: `styles` are w or w_plus, not z.
      inject_index: crossover of style mixing, see `to_w_plus`.
      truncation_psi: pulls w towards `truncation_latent`; 1 leaves it.
      truncation_latent: `[d]` or `[n d]`; `w_avg` if None.
      noise: see `Synthesis.__call__`.
      key: for random noise and a random crossover.
      return_latents: also return the w_plus that were rendered.
      return_features: also return the maps before the last ToRGB.

    Returns:
      The images, or a tuple (images, [w_plus], [features]).
    """
    sets = [styles] if hasattr(styles, "shape") else list(styles)
    if not input_is_latent:
      sets = [self.mapping(z) for z in sets]
    if truncation_psi != 1:
      given = truncation_latent is not None
      centre = truncation_latent if given else self.w_avg[...]
      sets = [_truncate(w, centre, truncation_psi) for w in sets]
    crossover_key = None if key is None else _first(jax.random.clone(key))
    w_plus = self.to_w_plus(sets, inject_index, crossover_key)
    image, features = self.synthesis(w_plus, noise, key, return_features=True)
    extras = (w_plus,) * return_latents + (features,) * return_features
    return (image, *extras) if extras else image


def _truncate(w: Array, centre: Array, psi: float) -> Array:
  """The truncation trick (StyleGAN, appendix B)."""
  if centre.ndim == 2 and w.ndim == 2:
    w = w[:, None]
  centre = centre.reshape((1,) * (w.ndim - centre.ndim) + centre.shape)
  return centre + psi * (w - centre)


def _first(key: Array) -> Array:
  key = _typed(key)
  return jax.random.fold_in(key if key.ndim == 0 else key[0], 0x6D6978)


def _typed(key: Array) -> Array:
  if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    return key
  return jax.random.wrap_key_data(key)


def _example_keys(key: Array, batch: int) -> Array:
  """One key per example: noise then does not depend on the batch's split."""
  key = _typed(key)
  return jax.random.split(key, batch) if key.ndim == 0 else key


def _normal(keys: Array, layer: int, shape: tuple[int, ...]) -> Array:
  def draw(key: Array) -> Array:
    return jax.random.normal(jax.random.fold_in(key, layer), shape)

  return jax.vmap(draw)(keys)


def _check_noise(noise: Sequence[Array], shapes, batch: int) -> None:
  if len(noise) != len(shapes):
    raise ValueError(
      f"{len(noise)} noise maps given, this generator takes {len(shapes)}."
    )
  for i, (array, shape) in enumerate(zip(noise, shapes, strict=True)):
    if array.shape not in (shape, (1, *shape), (batch, *shape)):
      raise ValueError(
        f"noise[{i}] has shape {array.shape}; use {shape} or {(batch, *shape)}."
      )
