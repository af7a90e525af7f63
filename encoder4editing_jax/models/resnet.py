"""The ResNet body of ReStyle's encoders for other domains than faces.

Basic blocks of arXiv 1512.03385 (section 3.3); as ReStyle (arXiv 2104.02699)
has it, without max-pooling and with a PReLU after the first convolution.
"""

from collections.abc import Sequence

import jax
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.models.layers import BatchNorm, conv
from encoder4editing_jax.models.stages import CHANNELS, Stages

# Blocks in each of the four stages. 34 is the published one.
STAGES = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class BasicBlock(nnx.Module):
  """3x3 with stride, BN, ReLU, 3x3, BN; plus the shortcut; ReLU."""

  def __init__(
    self,
    in_features: int,
    features: int,
    stride: int,
    *,
    bn_axis: str | None = None,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.conv1 = conv(
      in_features, features, 3, stride=stride, padding=1, dtype=dtype, rngs=rngs
    )
    self.norm1 = BatchNorm(features, axis_name=bn_axis, rngs=rngs)
    self.conv2 = conv(features, features, 3, padding=1, dtype=dtype, rngs=rngs)
    self.norm2 = BatchNorm(features, axis_name=bn_axis, rngs=rngs)
    changes = stride != 1 or in_features != features
    self.shortcut_conv = (
      conv(in_features, features, 1, stride=stride, dtype=dtype, rngs=rngs)
      if changes
      else None
    )
    self.shortcut_norm = (
      BatchNorm(features, axis_name=bn_axis, rngs=rngs) if changes else None
    )

  def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
    shortcut = x
    if self.shortcut_conv is not None and self.shortcut_norm is not None:
      shortcut = self.shortcut_norm(self.shortcut_conv(x))
    y = jax.nn.relu(self.norm1(self.conv1(x)))
    return jax.nn.relu(self.norm2(self.conv2(y)) + shortcut)


class ResNet(Stages):
  """ResNet-34 without max-pooling; arguments as those of `irse.Backbone`.

  Raises:
    ValueError: unknown `num_layers`.
  """

  def __init__(
    self,
    num_layers: int = 34,
    *,
    input_channels: int = 6,
    channels: Sequence[int] = CHANNELS,
    bn_axis: str | None = None,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    if num_layers not in STAGES:
      raise ValueError(
        f"no ResNet body has {num_layers} layers; choose one of "
        f"{sorted(STAGES)}."
      )
    self.num_layers = num_layers
    self.bn_axis = bn_axis
    self.dtype = dtype

    def block(width: int, features: int, stage: int, i: int) -> BasicBlock:
      stride = 2 if stage > 0 and i == 0 else 1
      return BasicBlock(
        width, features, stride, bn_axis=bn_axis, dtype=dtype, rngs=rngs
      )

    super().__init__(
      conv(
        input_channels,
        channels[0],
        7,
        stride=2,
        padding=3,
        dtype=dtype,
        rngs=rngs,
      ),
      block,
      STAGES[num_layers],
      channels=channels,
      bn_axis=bn_axis,
      rngs=rngs,
    )
