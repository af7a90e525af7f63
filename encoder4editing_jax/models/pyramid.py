"""What the encoders share: arguments, body, and heads on a pyramid of maps.

The pyramid of pSp (arXiv 2008.00951, figure 2), which e4e took over:

    body -> c1 (1/4), c2 (1/8), c3 (1/16)
    c3                          -> coarse heads, styles 0-2
    p2 = enlarge(c3) + 1x1(c2)  -> middle heads, styles 3-6
    p1 = enlarge(p2) + 1x1(c1)  -> fine heads, styles 7 and on
"""

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from encoder4editing_jax import ops
from encoder4editing_jax.models.heads import StyleHeads, halvings
from encoder4editing_jax.models.irse import Backbone
from encoder4editing_jax.models.layers import conv
from encoder4editing_jax.models.stages import CHANNELS, require_channels

FIRST_MIDDLE = 3
FIRST_FINE = 7

Stage: TypeAlias = int | Int[Array, ""] | None


class Encoder(nnx.Module):
  """The arguments and the body that all encoders share.

  Args:
    n_styles: rows of the result, 2 log2(s) - 2 for a generator of side s.
    input_size: side, or (height, width), of the images. Style heads have as
      many strided convolutions as the larger side needs, so one encoder takes
      256 x 256 and 192 x 256; the others do not depend on it.
    input_channels: of the images; None means the usual number, 3, and 6 for
      the encoders of ReStyle (image and current reconstruction).
    style_dim: length of a style vector.
    num_layers: of the body; None means the published one, 50 (ResNet: 34).
    channels: of the four stages of the body.
    bn_axis: mapped axis over which batch statistics are synchronised.
    dtype: of the activations, "float32" (default) or "bfloat16". Parameters,
      statistics and the result are float32 in both cases.
  """

  body_type: ClassVar[type] = Backbone
  usual_layers: ClassVar[int] = 50
  usual_channels: ClassVar[int] = 3
  checks_size: ClassVar[bool] = True

  def __init__(
    self,
    n_styles: int = 18,
    *,
    input_size: int | Sequence[int] = 256,
    input_channels: int | None = None,
    style_dim: int = 512,
    num_layers: int | None = None,
    channels: Sequence[int] = CHANNELS,
    bn_axis: str | None = None,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.n_styles = n_styles
    self.input_size = (
      input_size if isinstance(input_size, int) else tuple(input_size)
    )
    self.input_channels = input_channels or self.usual_channels
    self.style_dim = style_dim
    self.num_layers = num_layers or self.usual_layers
    self.channels = tuple(channels)
    self.bn_axis = bn_axis
    self.dtype = dtype
    self.body = self.body_type(
      self.num_layers,
      input_channels=self.input_channels,
      channels=self.channels,
      bn_axis=bn_axis,
      dtype=dtype,
      rngs=rngs,
    )
    self._build(rngs)

  @property
  def input_shape(self) -> tuple[int, int]:
    """Height and width of the images."""
    size = self.input_size
    height, width = (size, size) if isinstance(size, int) else size
    return height, width

  def _build(self, rngs: nnx.Rngs) -> None:
    """Makes what follows the body."""
    raise NotImplementedError

  def _codes(self, image: Array, stage: Stage) -> Array:
    raise NotImplementedError

  def __call__(
    self, image: Float[Array, "b h w c"], stage: Stage = None
  ) -> Float[Array, "b n d"]:
    """Offsets from the mean style, float32.

    Args:
      image: in [-1, 1].
      stage: number of the last style that differs from style 0 (progressive
        training); an int or a traced integer. None: all styles.

    Raises:
      ValueError: the images do not fit, or `stage` is given and the encoder
        has no stages, or it is negative.
    """
    if isinstance(stage, int) and stage < 0:
      raise ValueError(f"stage is {stage}; pass 0 or more, or None for all.")
    require_channels(image, self.input_channels)
    if self.checks_size:
      self._check_size(*image.shape[1:3])
    return self._codes(image, stage)

  def _heads(
    self, n: int, reduction: int, in_features: int, rngs: nnx.Rngs
  ) -> StyleHeads:
    """`n` heads on the map whose sides are 1/`reduction` of the images'."""
    return StyleHeads(
      n,
      in_features,
      self.style_dim,
      -(-max(self.input_shape) // reduction),
      dtype=self.dtype,
      rngs=rngs,
    )

  def _check_size(self, height: int, width: int) -> None:
    largest = 2 ** halvings(max(self.input_shape))
    if max(height, width) > largest:
      raise ValueError(
        f"images of {height} x {width} are too large for style heads made for "
        f"input_size={self.input_size}, which take sides up to {largest}; "
        f"resize them, or build the encoder with input_size=({height}, "
        f"{width})."
      )

  def _refuse_stage(self, stage: Stage) -> None:
    if stage is not None:
      raise ValueError(
        f"{type(self).__name__} has no progressive stages; call it without "
        "`stage`, or use Encoder4Editing or ProgressiveBackboneEncoder."
      )


def add_deltas(rows: Float[Array, "b n d"], stage: Stage) -> Array:
  """`w_i = w_0 + delta_i` (e4e); deltas after `stage` are 0."""
  first, deltas = rows[:, :1], rows[:, 1:]
  if stage is not None:
    active = jnp.arange(1, rows.shape[1]) <= stage
    deltas = jnp.where(active[None, :, None], deltas, 0)
  return jnp.concatenate([first, first + deltas], 1)


class Pyramid(Encoder):
  """Heads on three maps; `_rows` is what e4e and pSp have in common."""

  def _build(self, rngs: nnx.Rngs) -> None:
    c1, c2, c3 = self.channels[1:]
    n_middle, n_fine = self._group_sizes()
    self.heads_coarse = self._heads(
      min(self.n_styles, FIRST_MIDDLE), 16, c3, rngs
    )
    self.heads_middle = self._heads(n_middle, 8, c3, rngs) if n_middle else None
    self.heads_fine = self._heads(n_fine, 4, c3, rngs) if n_fine else None
    self.lateral1 = self._lateral(c2, c3, rngs) if n_middle else None
    self.lateral2 = self._lateral(c1, c3, rngs) if n_fine else None

  def _lateral(self, i: int, o: int, rngs: nnx.Rngs) -> nnx.Conv:
    return conv(i, o, 1, use_bias=True, dtype=self.dtype, rngs=rngs)

  def _group_sizes(self) -> tuple[int, int]:
    n = self.n_styles
    return max(min(n, FIRST_FINE) - FIRST_MIDDLE, 0), max(n - FIRST_FINE, 0)

  def _rows(self, image: Array) -> Float[Array, "b n d"]:
    """What every head says."""
    _, c1, c2, c3 = self.body(image)
    rows = [self.heads_coarse(c3)]
    if self.lateral1 is not None and self.heads_middle is not None:
      p2 = _enlarge_add(c3, self.lateral1(c2))
      rows.append(self.heads_middle(p2))
      if self.lateral2 is not None and self.heads_fine is not None:
        p1 = _enlarge_add(p2, self.lateral2(c1))
        rows.append(self.heads_fine(p1))
    return jnp.concatenate(rows, 1)


def _enlarge_add(
  x: Float[Array, "b h w c"], y: Float[Array, "b h2 w2 c"]
) -> Float[Array, "b h2 w2 c"]:
  return ops.resize_align_corners(x, y.shape[1:3]) + y
