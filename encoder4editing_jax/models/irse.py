"""IR and IR-SE residual networks.

The "improved residual" unit is ArcFace's (arXiv 1801.07698, section 2.2), its
gate that of squeeze-and-excitation networks (arXiv 1709.01507, section 3).
"""

from collections.abc import Sequence

import jax
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.models.layers import BatchNorm, PReLU, conv
from encoder4editing_jax.models.stages import CHANNELS, Stages

# Units in each of the four stages. 50, 100 and 152 are the published ones,
# the others are smaller relatives.
STAGES = {
  10: (1, 1, 1, 1),
  18: (2, 2, 2, 2),
  34: (3, 4, 6, 3),
  50: (3, 4, 14, 3),
  100: (3, 13, 30, 3),
  152: (3, 8, 36, 3),
}
REDUCTION = 16


def depths(num_layers: int) -> tuple[int, ...]:
  """The number of units in each stage of a backbone.

  Raises:
    ValueError: there is no such backbone.
  """
  if num_layers not in STAGES:
    raise ValueError(
      f"no backbone has {num_layers} layers; choose one of {sorted(STAGES)}."
    )
  return STAGES[num_layers]


class SqueezeExcite(nnx.Module):
  """Scales channels by a gate in [0, 1] computed from their means."""

  def __init__(self, features: int, *, dtype: str | None, rngs: nnx.Rngs):
    hidden = max(features // REDUCTION, 1)
    self.fc1 = conv(features, hidden, 1, dtype=dtype, rngs=rngs)
    self.fc2 = conv(hidden, features, 1, dtype=dtype, rngs=rngs)

  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    mean = x.mean((1, 2), keepdims=True)
    return x * jax.nn.sigmoid(self.fc2(jax.nn.relu(self.fc1(mean))))


class Bottleneck(nnx.Module):
  """BN, 3x3, PReLU, 3x3 with stride, BN, gate; plus the shortcut."""

  def __init__(
    self,
    in_features: int,
    features: int,
    stride: int,
    *,
    squeeze_excite: bool = True,
    bn_axis: str | None = None,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.stride = stride
    wider = in_features != features
    self.shortcut_conv = (
      conv(in_features, features, 1, stride=stride, dtype=dtype, rngs=rngs)
      if wider
      else None
    )
    self.shortcut_norm = (
      BatchNorm(features, axis_name=bn_axis, rngs=rngs) if wider else None
    )
    self.norm1 = BatchNorm(in_features, axis_name=bn_axis, rngs=rngs)
    self.conv1 = conv(
      in_features, features, 3, padding=1, dtype=dtype, rngs=rngs
    )
    self.act = PReLU(features, rngs=rngs)
    self.conv2 = conv(
      features, features, 3, stride=stride, padding=1, dtype=dtype, rngs=rngs
    )
    self.norm2 = BatchNorm(features, axis_name=bn_axis, rngs=rngs)
    self.se = (
      SqueezeExcite(features, dtype=dtype, rngs=rngs)
      if squeeze_excite
      else None
    )

  def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
    if self.shortcut_conv is None or self.shortcut_norm is None:
      shortcut = x[:, :: self.stride, :: self.stride]
    else:
      shortcut = self.shortcut_norm(self.shortcut_conv(x))
    y = self.act(self.conv1(self.norm1(x)))
    y = self.norm2(self.conv2(y))
    if self.se is not None:
      y = self.se(y)
    return y + shortcut


class Backbone(Stages):
  """The IR or IR-SE body; the first unit of every stage halves the map.

  Args:
    num_layers: a key of `STAGES`; 50, 100 and 152 are the published networks.
    squeeze_excite: IR-SE (with gates) or IR.
    input_channels: of the images, any.
    channels: of the four stages.
    bn_axis: mapped axis over which batch statistics are synchronised.
    dtype: of the activations, "float32" (default) or "bfloat16"; parameters
      and statistics stay float32.

  Raises:
    ValueError: unknown `num_layers`.
  """

  def __init__(
    self,
    num_layers: int = 50,
    *,
    squeeze_excite: bool = True,
    input_channels: int = 3,
    channels: Sequence[int] = CHANNELS,
    bn_axis: str | None = None,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.num_layers = num_layers
    self.squeeze_excite = squeeze_excite
    self.bn_axis = bn_axis
    self.dtype = dtype

    def unit(width: int, features: int, stage: int, i: int) -> Bottleneck:
      return Bottleneck(
        width,
        features,
        2 if i == 0 else 1,
        squeeze_excite=squeeze_excite,
        bn_axis=bn_axis,
        dtype=dtype,
        rngs=rngs,
      )

    super().__init__(
      conv(input_channels, channels[0], 3, padding=1, dtype=dtype, rngs=rngs),
      unit,
      depths(num_layers),
      channels=channels,
      bn_axis=bn_axis,
      rngs=rngs,
    )
