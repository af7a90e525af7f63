"""Style heads: feature maps to style vectors (pSp, arXiv 2008.00951, fig. 2).

A head is a run of 3x3 convolutions with stride 2, down to one pixel, and an
equalised linear layer. All heads on one map are stored and computed together.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import phases
from encoder4editing_jax.models.layers import normal, uniform_init

SLOPE = 0.01  # PyTorch's default, not StyleGAN's 0.2


def halvings(side: int) -> int:
  """How often a side has to be halved, rounding up, to become 1."""
  return (side - 1).bit_length()


class HeadConv(nnx.Module):
  """One 3x3 convolution of each of n heads, stride 2, padding 1."""

  def __init__(
    self,
    n: int,
    in_features: int,
    features: int,
    *,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    init = uniform_init(9 * in_features)
    self.kernel = nnx.Param(
      init(rngs.params(), (n, 3, 3, in_features, features))
    )
    self.bias = nnx.Param(init(rngs.params(), (n, features)))
    self.dtype = dtype

  def __call__(self, x: Array) -> Float[Array, "n b h2 w2 d"]:
    """From one map for all heads `[b h w c]` or one each `[n b h w c]`."""
    dtype = self.dtype or jnp.float32
    kernel, bias = self.kernel[...].astype(dtype), self.bias[...].astype(dtype)
    convolve = _shared if x.ndim == 4 else _batched
    return convolve(x.astype(dtype), kernel) + bias[:, None, None, None]


def _shared(
  x: Float[Array, "b h w c"], kernel: Float[Array, "n 3 3 c d"]
) -> Float[Array, "n b h2 w2 d"]:
  """All heads on one map.

  XLA:CPU is better at large products than at convolutions with a stride.
  """
  return jax.lax.platform_dependent(
    x, kernel, cpu=_one_by_one, default=_side_by_side
  )


def _side_by_side(
  x: Float[Array, "b h w c"], kernel: Float[Array, "n 3 3 c d"]
) -> Float[Array, "n b h2 w2 d"]:
  """One convolution whose outputs are those of all heads side by side."""
  n, _, _, c, d = kernel.shape
  side_by_side = kernel.transpose(1, 2, 3, 0, 4).reshape(3, 3, c, n * d)
  y = phases.conv(x, side_by_side, 1, stride=2)
  return jnp.moveaxis(y.reshape(*y.shape[:3], n, d), 3, 0)


def _one_by_one(
  x: Float[Array, "b h w c"], kernel: Float[Array, "n 3 3 c d"]
) -> Float[Array, "n b h2 w2 d"]:
  """One product per head over the same patches."""
  n, _, _, c, d = kernel.shape
  patches = _patches(x)
  return jnp.stack([patches @ kernel[i].reshape(9 * c, d) for i in range(n)])


def _patches(x: Float[Array, "*b h w c"]) -> Float[Array, "*b h2 w2 k"]:
  """Windows of 3x3, stride 2, padding 1, k = 9 c."""
  *b, h, w, c = x.shape
  h2, w2 = -(-h // 2), -(-w // 2)
  edges, none = [(0, 0)] * len(b), [0] * len(b)
  x = jnp.pad(x, (*edges, (1, 1), (1, 1), (0, 0)))
  windows = [
    jax.lax.slice(
      x,
      (*none, i, j, 0),
      (*b, i + 2 * h2 - 1, j + 2 * w2 - 1, c),
      (*[1] * len(b), 2, 2, 1),
    )
    for i in range(3)
    for j in range(3)
  ]
  return jnp.concatenate(windows, -1)


def _batched(
  x: Float[Array, "n b h w c"], kernel: Float[Array, "n 3 3 c d"]
) -> Float[Array, "n b h2 w2 d"]:
  """One product per head over its own patches, batched over the heads.

  A grouped convolution says the same, and is many times slower on CPU.
  """
  n, _, _, c, d = kernel.shape
  products = kernel.reshape(n, 9 * c, d)
  return jnp.einsum("nbhwk,nkd->nbhwd", _patches(x), products)


class StyleHeads(nnx.Module):
  """n heads on one feature map, stacked along the first axis of each leaf.

  Args:
    n: heads.
    in_features: channels of the map.
    style_dim: length of a style vector, and channels within the head.
    side: larger side of the map; it sets the number of convolutions. A map
      reduces to one pixel if its larger side needs as many halvings.
    dtype: of the activations.
  """

  def __init__(
    self,
    n: int,
    in_features: int,
    style_dim: int,
    side: int,
    *,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.convs = nnx.List()
    for _ in range(max(halvings(side), 1)):
      self.convs.append(
        HeadConv(n, in_features, style_dim, dtype=dtype, rngs=rngs)
      )
      in_features = style_dim
    shape = (n, style_dim, style_dim)
    self.linear_kernel = nnx.Param(normal(rngs.params(), shape))
    self.linear_bias = nnx.Param(jnp.zeros((n, style_dim)))

  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n d"]:
    for layer in self.convs:
      x = jax.nn.leaky_relu(layer(x), SLOPE)
    x = x[:, :, 0, 0].astype(jnp.float32)
    kernel = self.linear_kernel[...] / math.sqrt(x.shape[-1])
    rows = jnp.einsum("nbi,nio->bno", x, kernel, precision="highest")
    return rows + self.linear_bias[...][None]
