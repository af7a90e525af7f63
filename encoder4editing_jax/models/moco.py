"""MoCo's ResNet-50: how alike two images are in domains other than faces.

Trained without labels (MoCo v2, arXiv 2003.04297); e4e (arXiv 2102.02766,
section 5) compares its features where there is no network like ArcFace.
ResNet: arXiv 1512.03385, with the stride in the 3x3 convolution.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import ops
from encoder4editing_jax.models.layers import (
  BatchNorm,
  conv,
  keep,
  max_pool,
)
from encoder4editing_jax.models.stages import CHANNELS

DEPTHS = (3, 4, 6, 3)
EXPANSION = 4
EPSILON = 1e-12


class BottleneckBlock(nnx.Module):
  """1x1, 3x3 with stride, 1x1 to four times the features; plus the shortcut."""

  def __init__(
    self,
    in_features: int,
    features: int,
    stride: int,
    *,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    def norm(n: int) -> BatchNorm:
      return BatchNorm(n, rngs=rngs)

    def pointwise(i: int, o: int, stride: int = 1) -> nnx.Conv:
      return conv(i, o, 1, stride=stride, dtype=dtype, rngs=rngs)

    wide = EXPANSION * features
    self.conv1, self.norm1 = pointwise(in_features, features), norm(features)
    self.conv2 = conv(
      features, features, 3, stride=stride, padding=1, dtype=dtype, rngs=rngs
    )
    self.norm2 = norm(features)
    self.conv3, self.norm3 = pointwise(features, wide), norm(wide)
    changes = stride != 1 or in_features != wide
    self.shortcut_conv = (
      pointwise(in_features, wide, stride) if changes else None
    )
    self.shortcut_norm = norm(wide) if changes else None

  def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
    shortcut = x
    if self.shortcut_conv is not None and self.shortcut_norm is not None:
      shortcut = self.shortcut_norm(self.shortcut_conv(x))
    y = jax.nn.relu(self.norm1(self.conv1(x)))
    y = jax.nn.relu(self.norm2(self.conv2(y)))
    return jax.nn.relu(self.norm3(self.conv3(y)) + shortcut)


class MoCo(nnx.Module):
  """Images to unit vectors that are close for similar content.

  Args:
    depths: blocks in each stage.
    channels: of the 3x3 convolutions of the stages; the vectors have four
      times as many as the last.
    input_size: side of the square to which images are resized.
    dtype: of the activations, "float32" (default) or "bfloat16".
  """

  def __init__(
    self,
    depths: Sequence[int] = DEPTHS,
    *,
    channels: Sequence[int] = CHANNELS,
    input_size: int = 224,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.depths = tuple(depths)
    self.channels = tuple(channels)
    self.input_size = input_size
    self.dtype = dtype
    width = self.channels[0]
    self.input_conv = conv(
      3, width, 7, stride=2, padding=3, dtype=dtype, rngs=rngs
    )
    self.input_norm = BatchNorm(width, rngs=rngs)
    self.blocks = nnx.List()
    for stage, depth in enumerate(self.depths):
      for i in range(depth):
        stride = 2 if stage > 0 and i == 0 else 1
        features = self.channels[stage]
        self.blocks.append(
          BottleneckBlock(width, features, stride, dtype=dtype, rngs=rngs)
        )
        width = EXPANSION * features

  def __call__(self, image: Float[Array, "b h w c"]) -> Float[Array, "b e"]:
    """Unit vectors, float32.

    As published: images in [-1, 1] (not ImageNet's scaling), any size and
    shape, go to a square by nearest neighbours.

    Raises:
      ValueError: the images have not three channels.
    """
    if image.shape[-1] != 3:
      raise ValueError(
        f"images of shape {image.shape} do not have 3 channels; MoCo takes "
        "colours, [b h w 3]."
      )
    x = ops.resize_nearest(image, (self.input_size, self.input_size))
    x = jax.nn.relu(self.input_norm(self.input_conv(x)))
    x = max_pool(x, 3, 2, padding=1)
    for block in self.blocks:
      x = keep(block(x))
    x = x.astype(jnp.float32).mean((1, 2))
    square = jnp.maximum(jnp.sum(x * x, -1, keepdims=True), EPSILON**2)
    return x / jnp.sqrt(square)
