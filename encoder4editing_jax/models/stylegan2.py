"""The StyleGAN2 generator (arXiv 1912.04958), skip architecture.

    z [b d] -> mapping -> w [b d] -> w_plus [b n d] -> synthesis -> [b s s 3]

A generator of side s has n = 2 log2(s) - 2 styles.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.models.layers import Buffer
from encoder4editing_jax.models.noise import typed_key
from encoder4editing_jax.models.synthesis import (
  Mapping,
  Noise,
  Synthesis,
)


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
    conv_clamp: bound of what convolutions and ToRGB layers give (256 in ADA's
      networks); None for no bound.
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
    conv_clamp: float | None = None,
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
    height, width = constant_shape
    self.constant_shape = (height, width)
    self.conv_clamp = conv_clamp
    self.dtype = dtype
    channels = [self.channels(2**k) for k in range(2, levels + 1)]
    self.mapping = Mapping(style_dim, n_mlp, lr_mlp, rngs)
    self.synthesis = Synthesis(
      channels, self.constant_shape, style_dim, dtype, conv_clamp, rngs=rngs
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
  ) -> Any:
    """Images `[b h w 3]` from z (or from w, w_plus: `input_is_latent`).

    Args:
      styles: `[b d]` or `[b n d]`, or two of them to mix.
      input_is_latent: `styles` are w or w_plus, not z.
      inject_index: crossover of style mixing, see `to_w_plus`.
      truncation_psi: pulls w towards `truncation_latent`; 1 leaves it.
      truncation_latent: `[d]`, `[1 d]` or `[n d]`; `w_avg` if None.
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
  if centre.ndim == 2 and len(centre) == 1:
    centre = centre[0]
  if centre.ndim == 2 and w.ndim == 2:
    w = w[:, None]
  centre = centre.reshape((1,) * (w.ndim - centre.ndim) + centre.shape)
  return centre + psi * (w - centre)


def _first(key: Array) -> Array:
  key = typed_key(key)
  return jax.random.fold_in(key if key.ndim == 0 else key[0], 0x6D6978)
