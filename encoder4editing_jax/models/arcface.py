"""The ArcFace network: an IR or IR-SE body and an embedding."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import ops
from encoder4editing_jax.models.irse import Backbone
from encoder4editing_jax.models.layers import BatchNorm, linear
from encoder4editing_jax.models.stages import CHANNELS

# Where the face is in a picture aligned like FFHQ: rows and columns of 256.
FACE_ROWS = (35, 223)
FACE_COLUMNS = (32, 220)

EPSILON = 1e-12  # the least length by which an embedding is divided


def face_crop(image: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
  """The face of pictures aligned like FFHQ, as e4e and pSp cut it out.

  188 x 188 pixels of 256 x 256; of other sizes the same part, rounded.
  """

  def part(axis: int, ends: tuple[int, int]) -> slice:
    n = image.shape[axis]
    return slice(*(round(end * n / 256) for end in ends))

  return image[:, part(1, FACE_ROWS), part(2, FACE_COLUMNS)]


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
    square = jnp.maximum(jnp.sum(x * x, -1, keepdims=True), EPSILON**2)
    return x / jnp.sqrt(square)

  def embed_portrait(
    self, image: Float[Array, "b h w c"]
  ) -> Float[Array, "b e"]:
    """Unit vectors of pictures aligned like FFHQ, in [-1, 1], of any size.

    What the identity losses of e4e and pSp compare: the crop of the face,
    averaged to the size that the network takes.
    """
    size = (self.input_size, self.input_size)
    return self(ops.adaptive_avg_pool(face_crop(image), size))
