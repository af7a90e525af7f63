"""The classifiers that LPIPS looks through, up to the last map that it reads.

AlexNet in one tower (arXiv 1404.5997), VGG16 (arXiv 1409.1556, configuration
D) and SqueezeNet 1.1 (arXiv 1602.07360), as torchvision has them. Each is a
list of layers in `NETS`; what LPIPS (arXiv 1801.03924) reads is marked `TAP`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.models.layers import conv, keep, max_pool


class Conv(NamedTuple):
  """A convolution with bias, and ReLU."""

  features: int
  kernel_size: int = 3
  stride: int = 1
  padding: int = 1


class Fire(NamedTuple):
  """A `FireModule` of so many features."""

  features: int


class Pool(NamedTuple):
  """Max-pooling with stride 2."""

  window: int
  round_up: bool = False


class Tap(NamedTuple):
  """Here the map is read."""


TAP = Tap()
_THREE, _THREE_UP = Pool(3), Pool(3, round_up=True)


def _vgg(*stages: tuple[int, int]) -> tuple[Conv | Pool | Tap, ...]:
  """Stages of (number of convolutions, features), with pooling between."""
  layers: list[Conv | Pool | Tap] = []
  for depth, features in stages:
    layers += [*[Conv(features)] * depth, TAP, Pool(2)]
  return tuple(layers[:-1])


NETS: dict[str, tuple[Conv | Fire | Pool | Tap, ...]] = {
  "alex": (
    *(Conv(64, 11, 4, 2), TAP, _THREE),
    *(Conv(192, 5, 1, 2), TAP, _THREE),
    *(Conv(384), TAP, Conv(256), TAP, Conv(256), TAP),
  ),
  "vgg": _vgg((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)),
  "squeeze": (
    *(Conv(64, 3, 2, 0), TAP, _THREE_UP),
    *(Fire(128), Fire(128), TAP, _THREE_UP),
    *(Fire(256), Fire(256), TAP, _THREE_UP),
    *(Fire(384), TAP, Fire(384), TAP, Fire(512), TAP, Fire(512), TAP),
  ),
}


def layers(net: str) -> tuple[Conv | Fire | Pool | Tap, ...]:
  """The layers of a network.

  Raises:
    ValueError: there is no such network.
  """
  if net not in NETS:
    raise ValueError(f"net is {net!r}; choose one of {sorted(NETS)}.")
  return NETS[net]


class FireModule(nnx.Module):
  """1x1 to an eighth of the features, then 1x1 and 3x3 to a half each."""

  def __init__(
    self, in_features: int, features: int, *, dtype: str | None, rngs: nnx.Rngs
  ):
    def biased(i: int, o: int, kernel_size: int) -> nnx.Conv:
      return conv(
        *(i, o, kernel_size),
        padding=kernel_size // 2,
        use_bias=True,
        dtype=dtype,
        rngs=rngs,
      )

    hidden, half = features // 8, features // 2
    self.squeeze = biased(in_features, hidden, 1)
    self.expand1x1 = biased(hidden, half, 1)
    self.expand3x3 = biased(hidden, half, 3)

  def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h w o"]:
    x = jax.nn.relu(self.squeeze(x))
    return jax.nn.relu(
      jnp.concatenate([self.expand1x1(x), self.expand3x3(x)], -1)
    )


class Trunk(nnx.Module):
  """Images to the maps at the taps of a network.

  Args:
    net: "alex", "vgg" or "squeeze".
    channels: features of the convolutions and fire modules in order (those of
      the latter divisible by 8); None means the published ones.
    dtype: of the activations, "float32" (default) or "bfloat16".

  Raises:
    ValueError: unknown `net`, or another number of channels than it takes.
  """

  def __init__(
    self,
    net: str = "alex",
    *,
    channels: Sequence[int] | None = None,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.net = net
    usual = [x.features for x in layers(net) if isinstance(x, Conv | Fire)]
    self.channels = tuple(usual if channels is None else channels)
    self.dtype = dtype
    if len(self.channels) != len(usual):
      raise ValueError(
        f"channels has {len(self.channels)} numbers, {net} takes {len(usual)}: "
        f"its published ones are {tuple(usual)}."
      )
    self.layers = nnx.List()
    width, widths, taps = 3, iter(self.channels), []
    for layer in layers(net):
      if isinstance(layer, Tap):
        taps.append(width)
      elif isinstance(layer, Conv | Fire):
        features = next(widths)
        self.layers.append(self._make(layer, width, features, rngs))
        width = features
    self.tap_channels = tuple(taps)

  def _make(
    self, layer: Conv | Fire, width: int, features: int, rngs: nnx.Rngs
  ) -> nnx.Module:
    if isinstance(layer, Fire):
      return FireModule(width, features, dtype=self.dtype, rngs=rngs)
    return conv(
      *(width, features, layer.kernel_size),
      stride=layer.stride,
      padding=layer.padding,
      use_bias=True,
      dtype=self.dtype,
      rngs=rngs,
    )

  def __call__(self, image: Float[Array, "b h w 3"]) -> tuple[Array, ...]:
    """One map `[b h w c]` for each tap.

    Raises:
      ValueError: the images are too small to have all of them.
    """
    x, maps, modules = image, [], iter(self.layers)
    for layer in layers(self.net):
      if isinstance(layer, Tap):
        maps.append(x)
      elif isinstance(layer, Pool):
        x = max_pool(x, layer.window, 2, round_up=layer.round_up)
      elif isinstance(layer, Conv):
        x = jax.nn.relu(next(modules)(x))
      else:
        x = next(modules)(x)
      if 0 in x.shape[1:3]:
        h, w = image.shape[1:3]
        raise ValueError(
          f"images of {h} x {w} are too small for the network {self.net!r}; "
          "resize them to 32 x 32 or more."
        )
    return tuple(keep(maps))
