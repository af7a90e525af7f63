"""Discriminators: of style vectors (e4e) and of images (StyleGAN2).

The latent discriminator is that of arXiv 2102.02766. The image
discriminator is the residual one of arXiv 1912.04958 (section 4.1), with the
minibatch standard deviation of Progressive GAN (arXiv 1710.10196, section 3).
"""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import ops
from encoder4editing_jax.models.layers import (
  EqualConv,
  EqualLinear,
  clamp,
  linear,
)

GROUP = 4  # samples over which the minibatch standard deviation is taken


class LatentDiscriminator(nnx.Module):
  """Tells encoded style vectors from those of the mapping network.

  Args:
    style_dim: length of a style vector.
    hidden: width of the hidden layers.
    n_layers: linear layers, the last of which has one output.
  """

  def __init__(
    self,
    style_dim: int = 512,
    hidden: int = 512,
    n_layers: int = 4,
    *,
    rngs: nnx.Rngs,
  ):
    self.style_dim = style_dim
    self.hidden = hidden
    self.n_layers = n_layers
    widths = (style_dim, *[hidden] * (n_layers - 1), 1)
    self.layers = nnx.List(
      linear(i, o, rngs=rngs) for i, o in itertools.pairwise(widths)
    )

  def __call__(self, w: Float[Array, "*b d"]) -> Float[Array, "*b 1"]:
    """Logits: positive where `w` looks like one of the mapping network."""
    for layer in self.layers[:-1]:
      w = jax.nn.leaky_relu(layer(w), 0.2)
    return self.layers[-1](w)


class ResidualBlock(nnx.Module):
  """Two 3x3 convolutions, the second halving the map; plus the shortcut."""

  def __init__(
    self,
    in_features: int,
    features: int,
    *,
    conv_clamp: float | None = None,
    rngs: nnx.Rngs,
  ):
    self.conv1 = EqualConv(in_features, in_features, 3, padding=1, rngs=rngs)
    self.conv2 = EqualConv(in_features, features, 3, stride=2, rngs=rngs)
    self.skip = EqualConv(in_features, features, 1, use_bias=False, rngs=rngs)
    self.conv_clamp = conv_clamp

  def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
    y = clamp(ops.fused_leaky_relu(self.conv1(x)), self.conv_clamp)
    y = self.conv2(ops.blur(y, (2, 2)))
    y = clamp(ops.fused_leaky_relu(y), self.conv_clamp)
    return (y + self.skip(ops.downsample2d(x))) / math.sqrt(2)


def minibatch_stddev(
  x: Float[Array, "b h w c"], group: int | None = GROUP
) -> Float[Array, "b h w c+1"]:
  """Appends a map: the mean standard deviation within groups of samples.

  A group holds every (b / group)-th sample, as in the original; None makes
  one group of the whole batch.

  Raises:
    ValueError: the batch does not divide into groups.
  """
  b, h, w, c = x.shape
  group = min(b, group or b)
  if b % group:
    raise ValueError(
      f"a batch of {b} does not divide into groups of {group}; use at most "
      f"{group} images or a multiple of {group}."
    )
  y = x.astype(jnp.float32).reshape(group, b // group, h, w, c)
  deviation = jnp.sqrt(y.var(0) + ops.EPSILON).mean((1, 2, 3))
  deviation = jnp.tile(deviation, group)[:, None, None, None]
  deviation = jnp.broadcast_to(deviation, (b, h, w, 1))
  return jnp.concatenate([x, deviation.astype(x.dtype)], -1)


class Discriminator(nnx.Module):
  """StyleGAN2's discriminator of images of one size.

  Args:
    size: side of the images, a power of two from 4.
    channel_base: a map of side r has `channel_base / r` channels ...
    channel_max: ... and at most this many (StyleGAN2, config F: 32768, 512).
    conv_clamp: bound of what convolutions give (256 in ADA's networks); None
      for no bound.
    mbstd_group_size: images over which the minibatch standard deviation is
      taken; None for the whole batch.

  Raises:
    ValueError: `size` is not a power of two from 4.
  """

  def __init__(
    self,
    size: int = 1024,
    channel_base: int = 32768,
    channel_max: int = 512,
    *,
    conv_clamp: float | None = None,
    mbstd_group_size: int | None = GROUP,
    rngs: nnx.Rngs,
  ):
    if size < 4 or size & (size - 1):
      raise ValueError(f"size is {size}; choose a power of two from 4.")
    self.size = size
    self.channel_base = channel_base
    self.channel_max = channel_max
    self.conv_clamp = conv_clamp
    self.mbstd_group_size = mbstd_group_size
    self.from_rgb = EqualConv(3, self.channels(size), 1, rngs=rngs)
    self.blocks = nnx.List()
    while size > 4:
      self.blocks.append(
        ResidualBlock(
          self.channels(size),
          self.channels(size // 2),
          conv_clamp=conv_clamp,
          rngs=rngs,
        )
      )
      size //= 2
    c = self.channels(4)
    self.final_conv = EqualConv(c + 1, c, 3, padding=1, rngs=rngs)
    self.linear1 = EqualLinear(16 * c, c, activate=True, rngs=rngs)
    self.linear2 = EqualLinear(c, 1, rngs=rngs)

  def channels(self, side: int) -> int:
    """Channels of the map of that side."""
    return min(self.channel_base // side, self.channel_max)

  def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b 1"]:
    """Logits: positive where images in [-1, 1] look real.

    They depend on the other images of the batch, see `minibatch_stddev`.

    Raises:
      ValueError: the images have another size, or their number does not
        divide into groups.
    """
    if image.shape[1:3] != (self.size, self.size):
      raise ValueError(
        f"images of shape {image.shape} do not fit a discriminator of "
        f"{self.size} x {self.size}; resize them first."
      )
    x = clamp(ops.fused_leaky_relu(self.from_rgb(image)), self.conv_clamp)
    for block in self.blocks:
      x = block(x)
    x = self.final_conv(minibatch_stddev(x, self.mbstd_group_size))
    x = clamp(ops.fused_leaky_relu(x), self.conv_clamp)
    return self.linear2(self.linear1(x.reshape(x.shape[0], -1)))
