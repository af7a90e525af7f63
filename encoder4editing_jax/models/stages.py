"""What the backbones share: an input layer, then blocks in four stages."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.models.layers import BatchNorm, PReLU, keep

CHANNELS = (64, 128, 256, 512)


class Stages(nnx.Module):
  """A convolution, BN and PReLU, then blocks in four stages.

  Args:
    input_conv: the convolution.
    block: `block(in_features, features, stage, i)` makes block i of a stage.
    depths: number of blocks in each stage.
    channels: of the four stages; the convolution gives as many as the first.
    bn_axis: mapped axis over which batch statistics are synchronised.
  """

  def __init__(
    self,
    input_conv: nnx.Conv,
    block: Callable[[int, int, int, int], nnx.Module],
    depths: Sequence[int],
    *,
    channels: Sequence[int],
    bn_axis: str | None,
    rngs: nnx.Rngs,
  ):
    self.input_channels = input_conv.in_features
    self.channels = tuple(channels)
    self.taps = tuple(n - 1 for n in accumulate(depths))
    width = self.channels[0]
    self.input_conv = input_conv
    self.input_norm = BatchNorm(width, axis_name=bn_axis, rngs=rngs)
    self.input_act = PReLU(width, rngs=rngs)
    self.blocks = nnx.List()
    for stage, features in enumerate(self.channels):
      for i in range(depths[stage]):
        self.blocks.append(block(width, features, stage, i))
        width = features

  def __call__(self, image: Float[Array, "b h w c"]) -> tuple[Array, ...]:
    """The outputs of the four stages, at 1/2, 1/4, 1/8 and 1/16 of the size.

    Raises:
      ValueError: the images have another number of channels.
    """
    require_channels(image, self.input_channels)
    x = keep(self.input_act(self.input_norm(self.input_conv(image))))
    outputs = []
    for i, block in enumerate(self.blocks):
      x = keep(block(x))
      if i in self.taps:
        outputs.append(x)
    return tuple(outputs)


def require_channels(image: Float[Array, "b h w c"], channels: int) -> None:
  """Refuses what is not a batch of float images of that many channels."""
  if image.ndim != 4:
    raise ValueError(
      f"images of shape {image.shape} are no batch; pass [b h w {channels}] "
      "(one image: image[None])."
    )
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise ValueError(
      f"images are {image.dtype}; pass floats in [-1, 1] (bytes: x / 127.5 - "
      "1)."
    )
  if image.shape[-1] != channels:
    raise ValueError(
      f"images of shape {image.shape} do not have {channels} channels; pass "
      f"[b h w {channels}], or build the network with "
      f"input_channels={image.shape[-1]}."
    )
