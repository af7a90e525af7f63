"""Learned perceptual distance between images (LPIPS, version 0.1).

Zhang et al. 2018, arXiv 1801.03924, section 3: maps of a classifier, scaled to
unit length at every position, are compared by weighted squared differences.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.models.trunks import Trunk

# Images in [-1, 1] to what the classifiers were trained on: ImageNet's mean
# and deviation for [0, 1], rescaled and rounded as LPIPS does.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10


def unit_length(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
  """`x / (|x| + 1e-10)` at every position, float32 or wider.

  Where x is 0 the norm counts as constant, so that no gradient is NaN. After
  a ReLU it is then 0.
  """
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  square = jnp.sum(x * x, -1, keepdims=True)
  positive = square > 0
  norm = jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)
  return x / (norm + EPSILON)


class LPIPS(nnx.Module):
  """Distance of two images as people judge it; smaller is more alike.

  Args:
    net: the classifier, "alex", "vgg" or "squeeze".
    channels: of its layers, see `Trunk`; None means the published ones.
    dtype: of its activations, "float32" (default) or "bfloat16"; lengths,
      differences and the result are float32.

  Raises:
    ValueError: see `Trunk`.
  """

  def __init__(
    self,
    net: str = "alex",
    *,
    channels: Sequence[int] | None = None,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.trunk = Trunk(net, channels=channels, dtype=dtype, rngs=rngs)
    self.net = net
    self.channels = self.trunk.channels
    self.dtype = dtype
    self.heads = nnx.List(
      [nnx.Param(jnp.ones(c)) for c in self.trunk.tap_channels]
    )

  def features(self, image: Float[Array, "b h w c"]) -> tuple[Array, ...]:
    """The maps `[b h w c]` of an image that `distances` compares.

    For an image that is compared several times.

    Args:
      image: in [-1, 1], of any size from 32 x 32; nothing is resized.

    Raises:
      ValueError: the images are too small, or have not three channels.
    """
    if image.shape[-1] != 3:
      raise ValueError(
        f"images of shape {image.shape} do not have 3 channels; LPIPS takes "
        "colours, [b h w 3]."
      )
    shift, scale = (jnp.array(v)[None, None, None] for v in (SHIFT, SCALE))
    return tuple(map(unit_length, self.trunk((image - shift) / scale)))

  def distances(
    self, x: Sequence[Array], y: Sequence[Array]
  ) -> Float[Array, "b t"]:
    """The terms of equation 1, one for each map of `features`."""
    terms = []
    for head, a, b in zip(self.heads, x, y, strict=True):
      mean = jnp.square(a - b).mean((1, 2))
      terms.append(jnp.matmul(mean, head[...], precision="highest"))
    return jnp.stack(terms, -1)

  def __call__(
    self, x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]
  ) -> Float[Array, " b"]:
    """The distance of each pair (equation 1).

    Args:
      x, y: images in [-1, 1], of any size from 32 x 32.

    Raises:
      ValueError: the images are too small, or have not three channels.
    """
    return self.distances(self.features(x), self.features(y)).sum(-1)
