"""IR and IR-SE residual networks, and the ArcFace network made of one.

The "improved residual" unit is ArcFace's (arXiv 1801.07698, section 2.2), its
gate that of squeeze-and-excitation networks (arXiv 1709.01507, section 3).
"""

from collections.abc import Sequence
from itertools import accumulate

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.models.layers import BatchNorm, PReLU, conv, linear

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
CHANNELS = (64, 128, 256, 512)
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


def taps(num_layers: int) -> tuple[int, ...]:
  """The index of the last unit of each stage: 2, 6, 20, 23 for 50 layers."""
  return tuple(n - 1 for n in accumulate(depths(num_layers)))


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


class Backbone(nnx.Module):
  """Four stages of units; the first unit of every stage halves the map.

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
    self.input_channels = input_channels
    self.channels = tuple(channels)
    self.bn_axis = bn_axis
    self.dtype = dtype
    self.taps = taps(num_layers)
    width = self.channels[0]
    self.input_conv = conv(
      input_channels, width, 3, padding=1, dtype=dtype, rngs=rngs
    )
    self.input_norm = BatchNorm(width, axis_name=bn_axis, rngs=rngs)
    self.input_act = PReLU(width, rngs=rngs)
    self.blocks = nnx.List()
    for features, depth in zip(self.channels, depths(num_layers), strict=True):
      for i in range(depth):
        self.blocks.append(
          Bottleneck(
            width,
            features,
            2 if i == 0 else 1,
            squeeze_excite=squeeze_excite,
            bn_axis=bn_axis,
            dtype=dtype,
            rngs=rngs,
          )
        )
        width = features

  def __call__(self, image: Float[Array, "b h w c"]) -> tuple[Array, ...]:
    """The outputs of the four stages, at 1/2, 1/4, 1/8 and 1/16 of the size.

    Raises:
      ValueError: the images have another number of channels.
    """
    require_channels(image, self.input_channels)
    x = self.input_act(self.input_norm(self.input_conv(image)))
    outputs = []
    for i, block in enumerate(self.blocks):
      x = block(x)
      if i in self.taps:
        outputs.append(x)
    return tuple(outputs)


def require_channels(image: Float[Array, "b h w c"], channels: int) -> None:
  """Refuses images that do not have the given number of channels."""
  if image.shape[-1] != channels:
    raise ValueError(
      f"images of shape {image.shape} do not have {channels} channels; pass "
      f"[b h w {channels}], or build the network with "
      f"input_channels={image.shape[-1]}."
    )


class ArcFace(nnx.Module):
  """Images to unit vectors that tell people apart (arXiv 1801.07698).

  Args:
    num_layers, squeeze_excite, input_channels, channels, dtype: see `Backbone`.
    input_size: side of the square images, 112 in all published networks.
    embedding_dim: length of the vectors.
    affine: learned scale and shift in the last normalisation (CurricularFace
      has none).
  """

  def __init__(
    self,
    num_layers: int = 50,
    *,
    squeeze_excite: bool = True,
    input_size: int = 112,
    embedding_dim: int = 512,
    affine: bool = True,
    input_channels: int = 3,
    channels: Sequence[int] = CHANNELS,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.num_layers = num_layers
    self.squeeze_excite = squeeze_excite
    self.input_size = input_size
    self.embedding_dim = embedding_dim
    self.affine = affine
    self.input_channels = input_channels
    self.channels = tuple(channels)
    self.dtype = dtype
    self.backbone = Backbone(
      num_layers,
      squeeze_excite=squeeze_excite,
      input_channels=input_channels,
      channels=channels,
      dtype=dtype,
      rngs=rngs,
    )
    side, features = -(-input_size // 16), self.channels[-1]
    self.norm_in = BatchNorm(features, rngs=rngs)
    self.linear = linear(side * side * features, embedding_dim, rngs=rngs)
    self.norm_out = BatchNorm(embedding_dim, affine=affine, rngs=rngs)

  def __call__(self, image: Float[Array, "b h w c"]) -> Float[Array, "b e"]:
    """Unit vectors, float32.

    Raises:
      ValueError: the images have another size than the network takes.
    """
    if image.shape[1:3] != (self.input_size, self.input_size):
      raise ValueError(
        f"images of shape {image.shape} do not fit an ArcFace network for "
        f"{self.input_size} x {self.input_size}; resize them first."
      )
    x = self.norm_in(self.backbone(image)[-1])
    x = x.astype(jnp.float32).reshape(x.shape[0], -1)  # rows, columns, channels
    x = self.norm_out(self.linear(x))
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
